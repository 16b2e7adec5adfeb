// SPDX-License-Identifier: Apache-2.0
//
// Scratch tiles for the additive recurrence.
//
// A chunk is worked on in tiles of kTile tokens, so that a tile's operands stay
// in the first two cache levels whatever the chunk is. Operands are first
// copied to scratch, padded with zeros to whole vectors and register blocks:
// products then have no remainders, their loads are aligned, and tokens that
// lie a power of two apart in memory do not compete for cache sets.

#if defined(MNEME_ATTENTION_KERNELS_STAGED_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_STAGED_TILE_INL_H_
#undef MNEME_ATTENTION_KERNELS_STAGED_TILE_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_STAGED_TILE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <new>

#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "hwy/aligned_allocator.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// Tokens per tile: 64 x 64 scores of float fill a third of the L1 cache.
constexpr size_t kTile = 64;

// Rows of a register block; its columns are two vectors. A multiply-add takes 4
// cycles and two start in each, so 8 accumulators are the least that keeps both
// units busy. With 32 registers 16 of them load less often per product.
constexpr size_t kBlockRows =
    HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 8 : 4;

constexpr size_t RoundUp(size_t n, size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Both whole vectors and whole register blocks.
template <typename T>
constexpr size_t Padded(size_t n) {
  return RoundUp(
      n, std::max(kBlockRows, size_t{hn::MaxLanes(hn::ScalableTag<T>())}));
}

// A padded matrix in scratch memory.
template <typename T>
struct Tile {
  T* data = nullptr;
  size_t stride = 0;

  T* row(size_t r) const { return data + r * stride; }

  // An odd number of vectors from row to row spreads a column of vectors over
  // all cache sets.
  static constexpr size_t Stride(size_t cols) {
    constexpr size_t kLanes = hn::MaxLanes(hn::ScalableTag<T>());
    return (RoundUp(Padded<T>(cols), kLanes) / kLanes | 1) * kLanes;
  }
};

// At least n entries of a block per thread that only ever grows, since
// allocating costs as much as a short sequence. Throws std::bad_alloc.
template <typename T>
T* ScratchBlock(size_t n) {
  thread_local hwy::AlignedFreeUniquePtr<T[]> memory;
  thread_local size_t capacity = 0;
  if (n > capacity) {
    capacity = 0;
    memory = hwy::AllocateAligned<T>(n);
    if (memory == nullptr) throw std::bad_alloc();
    capacity = n;
  }
  return memory.get();
}

// Hands out aligned pieces of the block. layout is called twice with a function
// from a number of entries to a pointer: to add up, and to hand out.
template <typename T, class Layout>
void LayOutScratch(const Layout& layout) {
  constexpr size_t kAlign = HWY_ALIGNMENT / sizeof(T);
  size_t total = 0;
  layout([&total](size_t n) -> T* {
    total += RoundUp(n, kAlign);
    return nullptr;
  });
  T* next = ScratchBlock<T>(total);
  layout([&next](size_t n) {
    T* const piece = next;
    next += RoundUp(n, kAlign);
    return piece;
  });
}

// Brings rows of matrices to the cache, kRows of each a call, while something
// else is computed: rows of one head lie a power of two apart, which hardware
// does not foresee.
template <typename T, size_t kRows, size_t kMatrices>
class Prefetcher {
 public:
  // Rows [begin, end) of each, from now on.
  void Start(const MatrixView<const T> (&matrices)[kMatrices], size_t begin,
             size_t end) {
    for (size_t m = 0; m < kMatrices; ++m) {
      rows_[m] = matrices[m].Rows(begin, 0);
    }
    left_ = end - begin;
  }

  HWY_INLINE void operator()() const {
    constexpr size_t kCacheLine = 64 / sizeof(T);
    for (size_t i = 0; i < kRows && left_ > 0; ++i, --left_) {
      Unroll<kMatrices>([&](auto m) HWY_ATTR __attribute__((always_inline)) {
        const T* const row = rows_[m].data;
        const T* const end = row + rows_[m].cols;
        for (const T* at = row; at < end; at += kCacheLine) hwy::Prefetch(at);
        rows_[m].data += rows_[m].stride;
      });
    }
  }

 private:
  mutable MatrixView<const T> rows_[kMatrices];
  mutable size_t left_ = 0;
};

// to = scale * from; the padding becomes zero.
template <typename T>
HWY_NOINLINE void Stage(MatrixView<const T> from, Tile<T> to, T scale = 1) {
  const hn::ScalableTag<T> d;
  const auto factor = hn::Set(d, scale);
  const size_t padded_cols = Padded<T>(from.cols);
  for (size_t r = 0; r < from.rows; ++r) {
    const T* HWY_RESTRICT source = from.row(r);
    T* HWY_RESTRICT target = to.row(r);
    size_t c = 0;
    for (; c + hn::Lanes(d) <= from.cols; c += hn::Lanes(d)) {
      hn::Store(hn::Mul(hn::LoadU(d, source + c), factor), d, target + c);
    }
    if (c < from.cols) {
      const FirstLanes<decltype(d)> rest{from.cols - c};
      hn::Store(hn::Mul(rest.Load(source + c), factor), d, target + c);
      c += hn::Lanes(d);
    }
    for (; c < padded_cols; c += hn::Lanes(d)) {
      hn::Store(hn::Zero(d), d, target + c);
    }
  }
  for (size_t r = from.rows; r < Padded<T>(from.rows); ++r) {
    std::fill_n(to.row(r), padded_cols, T{0});
  }
}

template <typename T>
HWY_NOINLINE void Unstage(Tile<T> from, MatrixView<T> to) {
  const hn::ScalableTag<T> d;
  for (size_t r = 0; r < to.rows; ++r) {
    ForEachVector(d, to.cols, [&](size_t c, const auto& lanes) HWY_ATTR {
      lanes.Store(hn::Load(d, from.row(r) + c), to.row(r) + c);
    });
  }
}

// Row r of a tile *= factors[r].
template <typename T>
HWY_NOINLINE void ScaleRows(const T* factors, size_t rows, size_t cols,
                            Tile<T> tile) {
  const hn::ScalableTag<T> d;
  for (size_t r = 0; r < rows; ++r) {
    const auto factor = hn::Set(d, factors[r]);
    for (size_t c = 0; c < cols; c += hn::Lanes(d)) {
      T* const at = tile.row(r) + c;
      hn::Store(hn::Mul(factor, hn::Load(d, at)), d, at);
    }
  }
}

// to = transposed from, of which rows and cols (rounded up to the padding) are
// wanted.
template <typename T>
HWY_NOINLINE void Transpose(Tile<T> from, size_t rows, size_t cols,
                            Tile<T> to) {
#if HWY_TARGET == HWY_SCALAR
  for (size_t r = 0; r < Padded<T>(rows); ++r) {
    for (size_t c = 0; c < cols; ++c) to.row(c)[r] = from.row(r)[c];
  }
#else
  // Squares of 16 bytes.
  constexpr size_t kSide = 16 / sizeof(T);
  const hn::FixedTag<T, kSide> d;
  const size_t padded_rows = Padded<T>(rows);
  for (size_t c = 0; c < cols; c += kSide) {
    for (size_t r = 0; r < padded_rows; r += kSide) {
      if constexpr (kSide == 2) {
        const auto row0 = hn::Load(d, from.row(r) + c);
        const auto row1 = hn::Load(d, from.row(r + 1) + c);
        hn::Store(hn::InterleaveLower(d, row0, row1), d, to.row(c) + r);
        hn::Store(hn::InterleaveUpper(d, row0, row1), d, to.row(c + 1) + r);
      } else {
        const auto row0 = hn::Load(d, from.row(r) + c);
        const auto row1 = hn::Load(d, from.row(r + 1) + c);
        const auto row2 = hn::Load(d, from.row(r + 2) + c);
        const auto row3 = hn::Load(d, from.row(r + 3) + c);
        const auto lower01 = hn::InterleaveLower(d, row0, row1);
        const auto lower23 = hn::InterleaveLower(d, row2, row3);
        const auto upper01 = hn::InterleaveUpper(d, row0, row1);
        const auto upper23 = hn::InterleaveUpper(d, row2, row3);
        hn::Store(hn::ConcatLowerLower(d, lower23, lower01), d, to.row(c) + r);
        hn::Store(hn::ConcatUpperUpper(d, lower23, lower01), d,
                  to.row(c + 1) + r);
        hn::Store(hn::ConcatLowerLower(d, upper23, upper01), d,
                  to.row(c + 2) + r);
        hn::Store(hn::ConcatUpperUpper(d, upper23, upper01), d,
                  to.row(c + 3) + r);
      }
    }
  }
#endif
}

// sum = decay * sum + weights^T tile; null weights are 1.
template <typename T>
HWY_NOINLINE void AddRows(Tile<T> tile, size_t rows, size_t cols,
                          const T* weights, T decay, T* sum) {
  const hn::ScalableTag<T> d;
  for (size_t c = 0; c < cols; c += hn::Lanes(d)) {
    auto total = hn::Mul(hn::Set(d, decay), hn::Load(d, sum + c));
    for (size_t r = 0; r < rows; ++r) {
      const auto weight = hn::Set(d, weights == nullptr ? T{1} : weights[r]);
      total = hn::MulAdd(weight, hn::Load(d, tile.row(r) + c), total);
    }
    hn::Store(total, d, sum + c);
  }
}

template <typename T>
bool IsZero(Tile<T> tile, size_t rows, size_t cols) {
  const hn::ScalableTag<T> d;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; c += hn::Lanes(d)) {
      const auto zero = hn::Eq(hn::Load(d, tile.row(r) + c), hn::Zero(d));
      if (!hn::AllTrue(d, zero)) return false;
    }
  }
  return true;
}

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_STAGED_TILE_INL_H_
