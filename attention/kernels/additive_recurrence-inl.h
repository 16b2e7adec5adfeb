// SPDX-License-Identifier: Apache-2.0
//
// What the chunked additive recurrence is made of, forward and backward, to be
// inlined into their SIMD targets.
//
// A chunk is worked on in tiles of kTile tokens, so that a tile's operands stay
// in the first two cache levels whatever the chunk is. Operands are first
// copied to scratch tiles, padded with zeros to whole vectors and register
// blocks: the products then have no remainders, their loads are aligned, and
// tokens that lie a power of two apart in memory do not compete for cache sets.
// Every product is one of two kinds:
//
//   Scores  q_i . k_j of each pair of tokens: lanes are tokens j.
//   Mix     sums over tokens (or features): lanes are features.

#if defined(MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
#undef MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "hwy/aligned_allocator.h"
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
// allocating costs as much as a short sequence.
template <typename T>
T* ScratchBlock(size_t n) {
  thread_local hwy::AlignedFreeUniquePtr<T[]> memory;
  thread_local size_t capacity = 0;
  if (n > capacity) {
    memory = hwy::AllocateAligned<T>(n);
    HWY_ASSERT(memory != nullptr);
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

// The product of left(row, p), of which single entries are broadcast, and
// right(p, column), of which whole vectors are loaded, summed over p < depth.
template <typename T>
struct Product {
  const T* left = nullptr;  // null: no product
  size_t left_row = 0;
  size_t left_p = 0;
  const T* right = nullptr;
  size_t right_p = 0;
  size_t depth = 0;
};
template <typename T>
Product<T> RowsTimes(Tile<T> left, Tile<T> right, size_t depth) {
  return {left.data, left.stride, 1, right.data, right.stride, depth};
}
template <typename T>
Product<T> ColumnsTimes(Tile<T> left, Tile<T> right, size_t depth) {
  return {left.data, 1, left.stride, right.data, right.stride, depth};
}

// Which (row, p) of a product's left factor exist.
enum class Part { kAll, kLower, kUpper };

// A block of sums in registers. They stay there only if all that touches them
// is inlined before GCC splits arrays into registers. Lambdas are not, unless
// forced to; so what is called with sums is a function object whose operator()
// is HWY_INLINE.
template <class D, size_t kVectors>
using Block = hn::VFromD<D>[kBlockRows][kVectors];

// f(row + r, col + v vectors, sums[r][v]) for each vector.
template <size_t kVectors, class D, class F>
HWY_INLINE void ForEachSum(D d, size_t row, size_t col,
                           Block<D, kVectors>& sums, const F& f) {
  Unroll<kBlockRows>([&](auto r) HWY_ATTR __attribute__((always_inline)) {
    Unroll<kVectors>([&](auto v) HWY_ATTR __attribute__((always_inline)) {
      f(row + r, col + v * hn::Lanes(d), sums[r][v]);
    });
  });
}

// sums += one step of the product: left(row, p) for the block's rows times
// vectors of right(p, .). Of the left factor's entries only those with kPart
// (relative to the diagonal, which step kStep is on) take part: others must not
// even be multiplied by zero, for the right factor may be NaN there.
template <Part kPart, size_t kStep, size_t kVectors, class D, typename T>
HWY_INLINE void AddStep(D d, const T* left, size_t left_row, const T* right,
                        Block<D, kVectors>& sums) {
  hn::VFromD<D> lanes[kVectors];
  Unroll<kVectors>([&](auto v) HWY_ATTR __attribute__((always_inline)) {
    lanes[v] = hn::Load(d, right + v * hn::Lanes(d));
  });
  Unroll<kBlockRows>([&](auto r) HWY_ATTR __attribute__((always_inline)) {
    constexpr size_t kRow = decltype(r)::value;
    if constexpr (kPart == Part::kAll ||
                  (kPart == Part::kLower ? kRow >= kStep : kRow <= kStep)) {
      const auto factor = hn::Set(d, left[r * left_row]);
      Unroll<kVectors>([&](auto v) HWY_ATTR __attribute__((always_inline)) {
        sums[r][v] = hn::MulAdd(factor, lanes[v], sums[r][v]);
      });
    }
  });
}

// sums += the steps [begin, end) of the product.
template <size_t kVectors, class D, typename T>
HWY_INLINE void AddSteps(D d, const Product<T>& product, size_t row, size_t col,
                         size_t begin, size_t end, Block<D, kVectors>& sums) {
  const T* left = product.left + row * product.left_row;
  const T* right = product.right + col;
  for (size_t p = begin; p < end; ++p) {
    AddStep<Part::kAll, 0, kVectors>(d, left + p * product.left_p,
                                     product.left_row,
                                     right + p * product.right_p, sums);
  }
}

// sums += the steps in which the block crosses the diagonal.
template <Part kPart, size_t kVectors, size_t kStep = 0, class D, typename T>
HWY_INLINE void AddDiagonalSteps(D d, const Product<T>& product, size_t row,
                                 size_t col, Block<D, kVectors>& sums) {
  if constexpr (kStep < kBlockRows) {
    const size_t p = row + kStep;
    AddStep<kPart, kStep, kVectors>(
        d, product.left + row * product.left_row + p * product.left_p,
        product.left_row, product.right + p * product.right_p + col, sums);
    AddDiagonalSteps<kPart, kVectors, kStep + 1>(d, product, row, col, sums);
  }
}

template <typename T>
struct SetToZero {
  template <class V>
  HWY_INLINE void operator()(size_t, size_t, V& v) const {
    v = hn::Zero(hn::DFromV<V>());
  }
};

template <size_t kVectors, typename T, class Store>
HWY_INLINE void ScoresBlock(size_t row, size_t col, const Product<T>& product,
                            const Store& store) {
  const hn::ScalableTag<T> d;
  Block<decltype(d), kVectors> sums;
  ForEachSum<kVectors>(d, row, col, sums, SetToZero<T>());
  AddSteps<kVectors>(d, product, row, col, 0, product.depth, sums);
  ForEachSum<kVectors>(d, row, col, sums, store);
}

// store(i, j, vector) for the products left(i, .) right(., j) of rows x cols
// tokens; with kLower, only for vectors that contain some j <= i.
template <Part kPart, typename T, class Store>
HWY_INLINE void Scores(size_t rows, size_t cols, const Product<T>& product,
                       const Store& store) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  for (size_t col = 0; col < cols; col += 2 * lanes) {
    size_t row = 0;
    if constexpr (kPart == Part::kLower) row = col / kBlockRows * kBlockRows;
    for (; row < rows; row += kBlockRows) {
      const size_t end =
          kPart == Part::kLower ? std::min(cols, row + kBlockRows) : cols;
      if (col + lanes < end) {
        ScoresBlock<2>(row, col, product, store);
      } else {
        ScoresBlock<1>(row, col, product, store);
      }
    }
  }
}

// A product with the state: its rows are multiplied by row_factors, unless
// null, and shown to collect(row, col, vector).
template <typename T, class Collect>
struct CrossProduct {
  Product<T> product;
  const T* row_factors;
  Collect collect;
};

template <typename T, class Collect>
struct ScaleAndCollect {
  const CrossProduct<T, Collect>& cross;

  template <class V>
  HWY_INLINE void operator()(size_t row, size_t col, V& v) const {
    if (cross.row_factors != nullptr) {
      v = hn::Mul(v, hn::Set(hn::DFromV<V>(), cross.row_factors[row]));
    }
    cross.collect(row, col, v);
  }
};

template <Part kPart, size_t kVectors, typename T, class Collect, class Store>
HWY_INLINE void MixBlock(size_t row, size_t col,
                         const CrossProduct<T, Collect>& cross,
                         const Product<T>& near, const Store& store) {
  const hn::ScalableTag<T> d;
  Block<decltype(d), kVectors> sums;
  ForEachSum<kVectors>(d, row, col, sums, SetToZero<T>());
  if (cross.product.left != nullptr) {
    AddSteps<kVectors>(d, cross.product, row, col, 0, cross.product.depth,
                       sums);
    ForEachSum<kVectors>(d, row, col, sums, ScaleAndCollect<T, Collect>{cross});
  }
  if constexpr (kPart == Part::kAll) {
    AddSteps<kVectors>(d, near, row, col, 0, near.depth, sums);
  } else if constexpr (kPart == Part::kLower) {
    AddSteps<kVectors>(d, near, row, col, 0, row, sums);
    AddDiagonalSteps<kPart, kVectors>(d, near, row, col, sums);
  } else {
    AddDiagonalSteps<kPart, kVectors>(d, near, row, col, sums);
    AddSteps<kVectors>(d, near, row, col, row + kBlockRows, near.depth, sums);
  }
  ForEachSum<kVectors>(d, row, col, sums, store);
}

// store(row, col, vector) for rows x cols sums of the cross product and the
// part kPart of near.
template <Part kPart, typename T, class Collect, class Store>
HWY_INLINE void Mix(size_t rows, size_t cols,
                    const CrossProduct<T, Collect>& cross,
                    const Product<T>& near, const Store& store) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  size_t col = 0;
  for (; col + lanes < cols; col += 2 * lanes) {
    for (size_t row = 0; row < rows; row += kBlockRows) {
      MixBlock<kPart, 2>(row, col, cross, near, store);
    }
  }
  if (col < cols) {
    for (size_t row = 0; row < rows; row += kBlockRows) {
      MixBlock<kPart, 1>(row, col, cross, near, store);
    }
  }
}

// What Scores and Mix call with their sums.

struct Ignore {
  template <class V>
  HWY_INLINE void operator()(size_t, size_t, V) const {}
};

// Masks and decays scores: zero for keys after the query and for queries that
// are padding. By selection, since 0 * NaN is NaN.
template <Part kPart, typename T>
struct Weigh {
  Tile<T> decay;  // none: no decay
  size_t rows;

  template <class V>
  HWY_INLINE V Keep(size_t i, size_t j, V score) const {
    if constexpr (kPart == Part::kAll) return score;
    const size_t past = i < j || i >= rows ? 0 : i - j + 1;
    return hn::IfThenElseZero(hn::FirstN(hn::DFromV<V>(), past), score);
  }

  template <class V>
  HWY_INLINE V operator()(size_t i, size_t j, V score) const {
    if (decay.data != nullptr) {
      score = hn::Mul(score, hn::Load(hn::DFromV<V>(), decay.row(i) + j));
    }
    return Keep(i, j, score);
  }
};

template <Part kPart, typename T>
struct StoreWeighed {
  Weigh<kPart, T> weigh;
  Tile<T> to;

  template <class V>
  HWY_INLINE void operator()(size_t i, size_t j, V score) const {
    hn::Store(weigh(i, j, score), hn::DFromV<V>(), to.row(i) + j);
  }
};

// The rows and columns of sums that lie inside a matrix: out = sum, or
// out += scale * sum.
template <typename T>
struct StoreInside {
  MatrixView<T> out;
  bool add;
  T scale;

  template <class V>
  HWY_INLINE void operator()(size_t row, size_t col, V sum) const {
    const hn::DFromV<V> d;
    if (row >= out.rows) return;
    T* to = out.row(row) + col;
    if (col + hn::Lanes(d) <= out.cols) {
      hn::StoreU(Combine(sum, AllLanes<decltype(d)>(), to), d, to);
    } else {
      const FirstLanes<decltype(d)> rest{out.cols - col};
      rest.Store(Combine(sum, rest, to), to);
    }
  }

 private:
  template <class V, class Lanes>
  HWY_INLINE V Combine(V sum, const Lanes& lanes, const T* to) const {
    if (!add) return sum;
    return hn::MulAdd(sum, hn::Set(hn::DFromV<V>(), scale), lanes.Load(to));
  }
};

// state = decay * state + sum.
template <typename T>
struct UpdateState {
  T decay;
  Tile<T> state;

  template <class V>
  HWY_INLINE void operator()(size_t row, size_t col, V sum) const {
    const hn::DFromV<V> d;
    T* to = state.row(row) + col;
    hn::Store(hn::MulAdd(hn::Set(d, decay), hn::Load(d, to), sum), d, to);
  }
};

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

#endif  // MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
