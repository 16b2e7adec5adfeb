// SPDX-License-Identifier: Apache-2.0
//
// What the softmax attention kernels are made of: small matrix products whose
// operands lie in the first-level cache, and transposition.
//
// All products are C[r][n] = sum_k A[r][k] B[k][n] (or +=) with whole vectors
// along n, so that nothing is ever summed across lanes. A is read one element
// at a time and broadcast, which is why it may lie either way around and is
// never packed: keys and values are read in place.

#if defined(MNEME_ATTENTION_KERNELS_SOFTMAX_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SOFTMAX_TILE_INL_H_
#undef MNEME_ATTENTION_KERNELS_SOFTMAX_TILE_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SOFTMAX_TILE_INL_H_
#endif

#include <cstddef>
#include <cstring>

#include "attention/kernels/lane_sums-inl.h"
#include "attention/kernels/matrix.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
constexpr size_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());

constexpr size_t RoundUp(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Rows of a tile of C. With two vectors per row, 8 (6) rows of sums, a row of B
// and a broadcast fit the 32 (16) registers; they need fewer loads than
// multiply-adds, and are enough chains to hide the latency of 4 cycles.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr size_t kTileRows = 8;
constexpr size_t kExpBatch = 8;  // vectors whose exponentials are interleaved
#else
constexpr size_t kTileRows = 6;
constexpr size_t kExpBatch = 4;
#endif

// A[r][k] where row r of A is a row of memory.
template <typename T>
struct RowsOf {
  const T* data;
  size_t stride;

  HWY_INLINE T operator()(size_t r, size_t k) const {
    return data[r * stride + k];
  }
  HWY_INLINE RowsOf SkipRows(size_t n) const {
    return {data + n * stride, stride};
  }
};

// A[r][k] where row r of A is a column of memory.
template <typename T>
struct ColumnsOf {
  const T* data;
  size_t stride;

  HWY_INLINE T operator()(size_t r, size_t k) const {
    return data[k * stride + r];
  }
  HWY_INLINE ColumnsOf SkipRows(size_t n) const { return {data + n, stride}; }
};

// What a product does with the old contents of C.
enum class Old { kIgnore, kAdd };

// kRows x kVecs vectors of C, kept in registers. Each element is the sum over
// ascending k from the left, whatever the shape of the tile, so that no result
// depends on how the matrix was cut into tiles.
template <size_t kRows, size_t kVecs, Old kOld, class A, typename T>
HWY_INLINE void Tile(A a, size_t depth, const T* HWY_RESTRICT b,
                     size_t b_stride, T* HWY_RESTRICT c, size_t c_stride) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  V sum[kRows][kVecs];
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
      sum[r][v] = kOld == Old::kAdd
                      ? hn::LoadU(d, c + r * c_stride + v * kLanes<T>)
                      : hn::Zero(d);
    }
  }
  for (size_t k = 0; k < depth; ++k) {
    V b_k[kVecs];
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
      b_k[v] = hn::LoadU(d, b + k * b_stride + v * kLanes<T>);
    }
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const V a_rk = hn::Set(d, a(r, k));
      HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
        sum[r][v] = hn::MulAdd(a_rk, b_k[v], sum[r][v]);
      }
    }
  }
  HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8) for (size_t v = 0; v < kVecs; ++v) {
      hn::StoreU(sum[r][v], d, c + r * c_stride + v * kLanes<T>);
    }
  }
}

// C (rows x kVecs vectors) = or += A B.
template <size_t kVecs, Old kOld, class A, typename T>
HWY_NOINLINE void Product(A a, size_t rows, size_t depth,
                          const T* HWY_RESTRICT b, size_t b_stride,
                          T* HWY_RESTRICT c, size_t c_stride) {
  size_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    Tile<kTileRows, kVecs, kOld>(a.SkipRows(r), depth, b, b_stride,
                                 c + r * c_stride, c_stride);
  }
  if ((rows - r) & 4) {
    Tile<4, kVecs, kOld>(a.SkipRows(r), depth, b, b_stride, c + r * c_stride,
                         c_stride);
    r += 4;
  }
  if ((rows - r) & 2) {
    Tile<2, kVecs, kOld>(a.SkipRows(r), depth, b, b_stride, c + r * c_stride,
                         c_stride);
    r += 2;
  }
  if ((rows - r) & 1) {
    Tile<1, kVecs, kOld>(a.SkipRows(r), depth, b, b_stride, c + r * c_stride,
                         c_stride);
  }
}

// C (rows x cols, any cols) += A B. B is readable up to whole vectors.
template <class A, typename T>
HWY_NOINLINE void AddProduct(A a, size_t rows, size_t depth,
                             const T* HWY_RESTRICT b, size_t b_stride,
                             T* HWY_RESTRICT c, size_t cols, size_t c_stride) {
  constexpr size_t kN = kLanes<T>;
  size_t col = 0;
  for (; col + 2 * kN <= cols; col += 2 * kN) {
    Product<2, Old::kAdd>(a, rows, depth, b + col, b_stride, c + col, c_stride);
  }
  if (col + kN <= cols) {
    Product<1, Old::kAdd>(a, rows, depth, b + col, b_stride, c + col, c_stride);
    col += kN;
  }
  if (col == cols) return;
  HWY_ALIGN T padded[kTileRows * kN];
  for (size_t r = 0; r < rows; r += kTileRows) {
    const size_t count = rows - r < kTileRows ? rows - r : kTileRows;
    Product<1, Old::kIgnore>(a.SkipRows(r), count, depth, b + col, b_stride,
                             padded, kN);
    for (size_t i = 0; i < count; ++i) {
      T* HWY_RESTRICT to = c + (r + i) * c_stride;
      for (size_t j = col; j < cols; ++j) to[j] += padded[i * kN + j - col];
    }
  }
}

// Copies a matrix; rows are filled with zeros up to to_stride.
template <typename T>
void CopyPadded(const T* HWY_RESTRICT from, size_t from_stride, size_t rows,
                size_t cols, T* HWY_RESTRICT to, size_t to_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      to[r * to_stride + c] = from[r * from_stride + c];
    }
    for (size_t c = cols; c < to_stride; ++c) to[r * to_stride + c] = 0;
  }
}

// Rows of one head may lie a power of two apart. From half a page on, going
// down a column finds all of it in one or two sets of the first-level cache:
// what is read so more than once is worth a copy.
template <typename T>
constexpr bool Scattered(size_t stride) {
  return stride * sizeof(T) >= 2048;
}

// Between the rows of a copy: whole vectors, and neighbours in different sets.
template <typename T>
constexpr size_t CopyStride(size_t cols) {
  return RoundUp(cols, kLanes<T>) + kLanes<T>;
}

template <typename T>
void CopyRows(MatrixView<const T> from, MatrixView<T> to) {
  if (from.cols == 0) return;
  for (size_t r = 0; r < from.rows; ++r) {
    std::memcpy(to.row(r), from.row(r), from.cols * sizeof(T));
  }
}

#if HWY_TARGET != HWY_SCALAR
// A vector whose 128-bit blocks come from rows 0, kBlockLanes, ... of a matrix.
template <class D, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const T* from, size_t stride) {
  if constexpr (hn::MaxLanes(d) <= kBlockLanes<T>) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    return hn::Combine(
        d, LoadBlocks(half, from + hn::MaxLanes(half) * stride, stride),
        LoadBlocks(half, from, stride));
  }
}

// Transposes Lanes(d) rows and kBlockLanes columns.
template <Old kOld, class D, typename T>
HWY_INLINE void TransposeBlock(D d, const T* HWY_RESTRICT from,
                               size_t from_stride, hn::Vec<D> factor,
                               T* HWY_RESTRICT to, size_t to_stride) {
  using V = hn::Vec<D>;
  const auto load = [&](size_t r) HWY_ATTR {
    return hn::Mul(factor, LoadBlocks(d, from + r * from_stride, from_stride));
  };
  const auto put = [&](V v, size_t c) HWY_ATTR {
    T* const element = to + c * to_stride;
    if (kOld == Old::kAdd) v = hn::Add(v, hn::LoadU(d, element));
    hn::StoreU(v, d, element);
  };
  if constexpr (kBlockLanes<T> == 4) {
    const V r0 = load(0), r1 = load(1), r2 = load(2), r3 = load(3);
    const V low02 = hn::InterleaveLower(d, r0, r2);
    const V low13 = hn::InterleaveLower(d, r1, r3);
    const V high02 = hn::InterleaveUpper(d, r0, r2);
    const V high13 = hn::InterleaveUpper(d, r1, r3);
    put(hn::InterleaveLower(d, low02, low13), 0);
    put(hn::InterleaveUpper(d, low02, low13), 1);
    put(hn::InterleaveLower(d, high02, high13), 2);
    put(hn::InterleaveUpper(d, high02, high13), 3);
  } else {
    const V r0 = load(0), r1 = load(1);
    put(hn::InterleaveLower(d, r0, r1), 0);
    put(hn::InterleaveUpper(d, r0, r1), 1);
  }
}
#endif

// to[c][r] = factor from[r][c], or += it.
template <Old kOld, typename T>
HWY_NOINLINE void Transpose(const T* HWY_RESTRICT from, size_t from_stride,
                            size_t rows, size_t cols, T factor,
                            T* HWY_RESTRICT to, size_t to_stride) {
  size_t whole_rows = 0;
  size_t whole_cols = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kBlock = kBlockLanes<T>;
  whole_cols = cols / kBlock * kBlock;
  const auto transpose_rows = [&](auto d) HWY_ATTR {
    const auto v_factor = hn::Set(d, factor);
    for (; whole_rows + hn::Lanes(d) <= rows; whole_rows += hn::Lanes(d)) {
      for (size_t c = 0; c < whole_cols; c += kBlock) {
        TransposeBlock<kOld>(d, from + whole_rows * from_stride + c,
                             from_stride, v_factor,
                             to + c * to_stride + whole_rows, to_stride);
      }
    }
  };
  transpose_rows(hn::ScalableTag<T>());
  transpose_rows(hn::FixedTag<T, kBlock>());
#endif
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) {
      T* const element = to + c * to_stride + r;
      const T value = factor * from[r * from_stride + c];
      *element = kOld == Old::kAdd ? *element + value : value;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_TILE_INL_H_
