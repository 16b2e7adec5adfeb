// SPDX-License-Identifier: Apache-2.0
//
// The micro-kernel of the matrix product and the packing of its right operand.
// Only gemm.cc includes this.
//
// A tile is an outer-product kernel: for each k it multiplies a column of A,
// one broadcast per row, with a row of B, kVecs vectors, and keeps all
// kRows x kVecs accumulators in registers. A is read in place through two
// strides, so it may be transposed; B must be contiguous along a row. Every
// accumulator is the sum over k in ascending order, whatever the tile's shape,
// so that an element of C does not depend on which tile computed it.

#if defined(MNEME_ATTENTION_KERNELS_GEMM_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_GEMM_TILE_INL_H_
#undef MNEME_ATTENTION_KERNELS_GEMM_TILE_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_GEMM_TILE_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/lanes-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
constexpr size_t kVectorRegisters = 32;
#else
constexpr size_t kVectorRegisters = 16;
#endif

// Accumulators of a tile; a row of B and a broadcast take the other registers.
// They outnumber the 8 multiply-adds in flight that hide their latency.
constexpr size_t kAccumulators = kVectorRegisters * 3 / 4;

// Tiles of 12 x 2 (6 x 2) vectors need few loads, 14 for 24 multiply-adds, and
// a panel of B that fits L1. If three vectors of columns are left, a tile of 8
// x 3 beats 12 x 2 and 12 x 1.
constexpr size_t kTileVecs = 2;
constexpr size_t kLastTileVecs = 3;
constexpr size_t kTileRows = kAccumulators / kTileVecs;

// Most rows of a tile of vecs vectors. Wide tiles are for products of few rows.
constexpr size_t MaxTileRows(size_t vecs) {
  return std::min(kTileRows, kAccumulators / vecs);
}

template <typename T>
struct TileArguments {
  const T* a;  // element (i, k) is a[i * a_row_stride + k * a_k_stride]
  size_t a_row_stride;
  size_t a_k_stride;
  const T* b;  // element (k, j) is b[k * b_stride + j], readable up to whole
  size_t b_stride;  // vectors
  size_t k;
  T* c;
  size_t c_stride;
  size_t cols;  // of C to write; the rest of the last vector is dropped
  T alpha;
  T beta;
  const T* bias;  // of the tile's first column, or null
  bool prefetch_c;
};

#if HWY_MEM_OPS_MIGHT_FAULT

// Without cheap masked stores, tiles with an incomplete last vector are written
// from their spilled accumulators. The operations on each element are those on
// a whole tile.
template <typename T>
HWY_NOINLINE void StoreRaggedTile(const T* HWY_RESTRICT tile,
                                  size_t tile_stride, size_t rows,
                                  const TileArguments<T>& t) {
  const hn::ScalableTag<T> d;
  for (size_t i = 0; i < rows; ++i) {
    const T* from = tile + i * tile_stride;
    T* to = t.c + i * t.c_stride;
    ForEachVector(d, t.cols, [&](size_t j, const auto& lanes) HWY_ATTR {
      auto v = hn::LoadU(d, from + j);
      if (t.alpha != T{1}) v = hn::Mul(v, hn::Set(d, t.alpha));
      if (t.beta != T{0}) {
        v = hn::MulAdd(lanes.Load(to + j), hn::Set(d, t.beta), v);
      }
      if (t.bias != nullptr) v = hn::Add(v, lanes.Load(t.bias + j));
      lanes.Store(v, to + j);
    });
  }
}

template <class D>
AllLanes<D> LastVector(D, size_t /*cols*/) {
  return {};
}

#else

// Access to a last vector of cols columns, which may be all it has: AVX-512
// masks are free.
template <class D>
FirstLanes<D> LastVector(D, size_t cols) {
  return {cols};
}

#endif

// Applies alpha, beta and the bias, and stores. Here and below the unrolled
// loops run entirely on registers; rolled up they would index arrays in memory.
template <size_t kRows, size_t kVecs, class D, typename T = hn::TFromD<D>>
HWY_INLINE void StoreTile(D d, hn::Vec<D> (&sum)[kRows][kVecs],
                          const TileArguments<T>& t) {
  using V = hn::Vec<D>;
  constexpr size_t kLanes = hn::MaxLanes(d);
#if HWY_MEM_OPS_MIGHT_FAULT
  if (HWY_UNLIKELY(t.cols != kVecs * kLanes)) {
    HWY_ALIGN T tile[kRows * kVecs * kLanes];
    HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
      HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
        hn::Store(sum[i][j], d, tile + (i * kVecs + j) * kLanes);
      }
    }
    StoreRaggedTile(tile, kVecs * kLanes, kRows, t);
    return;
  }
#endif
  T* const c = t.c;
  const size_t c_stride = t.c_stride;
  const AllLanes<D> whole;
  constexpr size_t kLast = kVecs - 1;
  const auto last = LastVector(d, t.cols - kLast * kLanes);
  if (t.alpha != T{1}) {
    const V alpha = hn::Set(d, t.alpha);
    HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
      HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
        sum[i][j] = hn::Mul(sum[i][j], alpha);
      }
    }
  }
  if (t.beta != T{0}) {
    const V beta = hn::Set(d, t.beta);
    HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
      HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
        const T* const from = c + i * c_stride + j * kLanes;
        const V old = j == kLast ? last.Load(from) : whole.Load(from);
        sum[i][j] = hn::MulAdd(old, beta, sum[i][j]);
      }
    }
  }
  if (t.bias != nullptr) {
    HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
      const T* const from = t.bias + j * kLanes;
      const V bias = j == kLast ? last.Load(from) : whole.Load(from);
      HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
        sum[i][j] = hn::Add(sum[i][j], bias);
      }
    }
  }
  HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
    HWY_UNROLL(16) for (size_t j = 0; j < kLast; ++j) {
      whole.Store(sum[i][j], c + i * c_stride + j * kLanes);
    }
    last.Store(sum[i][kLast], c + i * c_stride + kLast * kLanes);
  }
}

template <size_t kRows, size_t kVecs, typename T>
HWY_NOINLINE void Tile(const TileArguments<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  constexpr size_t kLanes = hn::MaxLanes(d);

  V sum[kRows][kVecs];
  HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
    HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
      sum[i][j] = hn::Zero(d);
    }
  }

  // One pointer for three rows: x86 addresses its neighbours with the stride
  // and twice the stride as index, and 12 pointers would not fit the registers.
  constexpr size_t kShare = 3;
  constexpr size_t kPointers = (kRows + kShare - 1) / kShare;
  const size_t a_row_stride = t.a_row_stride;
  const size_t a_k_stride = t.a_k_stride;
  const size_t b_stride = t.b_stride;
  const T* a[kPointers];
  HWY_UNROLL(8) for (size_t i = 0; i < kPointers; ++i) {
    a[i] = t.a + i * kShare * a_row_stride;
  }
  if (t.prefetch_c) {
    HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
      HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
        hwy::Prefetch(t.c + i * t.c_stride + j * kLanes);
      }
    }
  }
  const T* b = t.b;
  for (size_t k = t.k; k != 0; --k) {
    V b_row[kVecs];
    HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
      b_row[j] = hn::LoadU(d, b + j * kLanes);
    }
    b += b_stride;
    HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
      const V a_ik = hn::Set(d, a[i / kShare][i % kShare * a_row_stride]);
      HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
        sum[i][j] = hn::MulAdd(a_ik, b_row[j], sum[i][j]);
      }
    }
    HWY_UNROLL(8) for (size_t i = 0; i < kPointers; ++i) { a[i] += a_k_stride; }
  }

  StoreTile(d, sum, t);
}

// Copies k rows of cols columns, kVecs vectors of which the last may be
// incomplete, next to each other. What is beyond cols becomes zero.
template <size_t kVecs, typename T>
HWY_NOINLINE void PackRows(const T* HWY_RESTRICT b, size_t b_stride, size_t k,
                           size_t cols, T* HWY_RESTRICT to) {
  const hn::ScalableTag<T> d;
  constexpr size_t kLanes = hn::MaxLanes(d);
  constexpr size_t kLast = kVecs - 1;
  const auto copy = [&](const auto& last) HWY_ATTR {
    for (; k != 0; --k, b += b_stride, to += kVecs * kLanes) {
      HWY_UNROLL(4) for (size_t j = 0; j < kLast; ++j) {
        hn::Store(hn::LoadU(d, b + j * kLanes), d, to + j * kLanes);
      }
      hn::Store(last.Load(b + kLast * kLanes), d, to + kLast * kLanes);
    }
  };
  if (cols == kVecs * kLanes) {
    copy(AllLanes<decltype(d)>());
  } else {
    copy(FirstLanes<decltype(d)>{cols - kLast * kLanes});
  }
}

// Rows of a matrix, for reading it transposed.
template <typename T>
struct StridedRows {
  const T* first;
  size_t stride;
  HWY_INLINE const T* operator()(size_t i) const { return first + i * stride; }
  HWY_INLINE StridedRows From(size_t k) const { return {first + k, stride}; }
};

// The same, with the last row in place of those beyond it.
template <typename T>
struct ClampedRows {
  const T* first;
  size_t stride;
  size_t last;
  HWY_INLINE const T* operator()(size_t i) const {
    return first + std::min(i, last) * stride;
  }
  HWY_INLINE ClampedRows From(size_t k) const {
    return {first + k, stride, last};
  }
};

// The number of elements of a 128-bit block, within which transposing is cheap.
template <typename T>
constexpr size_t kBlock = HWY_TARGET == HWY_SCALAR ? 1 : 16 / sizeof(T);

#if HWY_TARGET == HWY_SCALAR
template <class D, class Rows, typename T = hn::TFromD<D>>
HWY_INLINE void LoadTransposed(D d, const Rows& rows, size_t first,
                               hn::Vec<D> (&column)[kBlock<T>]) {
  column[0] = hn::LoadU(d, rows(first));
}
#else

// A vector whose blocks begin rows first, first + kBlock, ...
template <class D, class Rows, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const Rows& rows, size_t first) {
  if constexpr (hn::MaxLanes(d) == kBlock<T>) {
    return hn::LoadU(d, rows(first));
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadBlocks(half, rows, first + hn::MaxLanes(half)),
                       LoadBlocks(half, rows, first));
  }
}

// column[p] = elements p of rows first, first + 1, ...: each block is
// transposed within itself.
template <class D, class Rows>
HWY_INLINE void LoadTransposed(D d, const Rows& rows, size_t first,
                               hn::Vec<D> (&column)[4]) {
  const hn::RepartitionToWide<D> dw;  // pairs of floats move as doubles
  const auto r0 = LoadBlocks(d, rows, first);
  const auto r1 = LoadBlocks(d, rows, first + 1);
  const auto r2 = LoadBlocks(d, rows, first + 2);
  const auto r3 = LoadBlocks(d, rows, first + 3);
  const auto low01 = hn::BitCast(dw, hn::InterleaveLower(d, r0, r1));
  const auto low23 = hn::BitCast(dw, hn::InterleaveLower(d, r2, r3));
  const auto high01 = hn::BitCast(dw, hn::InterleaveUpper(d, r0, r1));
  const auto high23 = hn::BitCast(dw, hn::InterleaveUpper(d, r2, r3));
  column[0] = hn::BitCast(d, hn::InterleaveLower(dw, low01, low23));
  column[1] = hn::BitCast(d, hn::InterleaveUpper(dw, low01, low23));
  column[2] = hn::BitCast(d, hn::InterleaveLower(dw, high01, high23));
  column[3] = hn::BitCast(d, hn::InterleaveUpper(dw, high01, high23));
}

template <class D, class Rows>
HWY_INLINE void LoadTransposed(D d, const Rows& rows, size_t first,
                               hn::Vec<D> (&column)[2]) {
  const auto r0 = LoadBlocks(d, rows, first);
  const auto r1 = LoadBlocks(d, rows, first + 1);
  column[0] = hn::InterleaveLower(d, r0, r1);
  column[1] = hn::InterleaveUpper(d, r0, r1);
}

#endif  // HWY_TARGET == HWY_SCALAR

// to[k * stride + j] = rows(j)[k] for the lanes j of a vector.
template <typename T, class Rows>
HWY_INLINE void PackTransposedVector(Rows rows, size_t k, T* HWY_RESTRICT to,
                                     size_t stride) {
  const hn::ScalableTag<T> d;
  hn::Vec<decltype(d)> column[kBlock<T>];
  if (HWY_LIKELY(k >= kBlock<T>)) {
    for (size_t p = 0; p < k; p += kBlock<T>) {
      // An incomplete last block overlaps the one before it.
      const size_t first = std::min(p, k - kBlock<T>);
      LoadTransposed(d, rows.From(first), 0, column);
      HWY_UNROLL(4) for (size_t q = 0; q < kBlock<T>; ++q) {
        hn::Store(column[q], d, to + (first + q) * stride);
      }
    }
    return;
  }
  for (size_t p = 0; p < k; ++p) {
    for (size_t j = 0; j < hn::MaxLanes(d); ++j)
      to[p * stride + j] = rows(j)[p];
  }
}

// Like PackRows, for a B stored transposed: b holds cols rows of k elements.
// What is beyond cols repeats the last column.
template <typename T>
HWY_NOINLINE void PackTransposed(const T* b, size_t b_stride, size_t k,
                                 size_t cols, T* HWY_RESTRICT to,
                                 size_t stride) {
  constexpr size_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
  size_t j = 0;
  for (; j + kLanes <= cols; j += kLanes) {
    const StridedRows<T> rows{b + j * b_stride, b_stride};
    PackTransposedVector(rows, k, to + j, stride);
  }
  if (j < cols) {
    const ClampedRows<T> rows{b + j * b_stride, b_stride, cols - 1 - j};
    PackTransposedVector(rows, k, to + j, stride);
  }
}

// A tile of few rows for a whole-vector panel of a B stored transposed, with k
// a multiple of kBlock. So few rows do not repay packing: B is transposed in
// registers.
template <size_t kRows, size_t kVecs, typename T>
HWY_NOINLINE void TransposingTile(const TileArguments<T>& t) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  V sum[kRows][kVecs];
  HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
    HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) sum[i][j] = hn::Zero(d);
  }
  const size_t a_row_stride = t.a_row_stride;
  const size_t a_k_stride = t.a_k_stride;
  const T* a = t.a;
  StridedRows<T> rows{t.b, t.b_stride};
  for (size_t k = t.k; k != 0; k -= kBlock<T>) {
    HWY_UNROLL(16) for (size_t j = 0; j < kVecs; ++j) {
      V column[kBlock<T>];
      LoadTransposed(d, rows, j * hn::MaxLanes(d), column);
      HWY_UNROLL(4) for (size_t p = 0; p < kBlock<T>; ++p) {
        HWY_UNROLL(16) for (size_t i = 0; i < kRows; ++i) {
          const V a_ik = hn::Set(d, a[i * a_row_stride + p * a_k_stride]);
          sum[i][j] = hn::MulAdd(a_ik, column[p], sum[i][j]);
        }
      }
    }
    a += kBlock<T> * a_k_stride;
    rows = rows.From(kBlock<T>);
  }
  StoreTile(d, sum, t);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_GEMM_TILE_INL_H_
