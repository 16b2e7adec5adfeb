// SPDX-License-Identifier: Apache-2.0
//
// The matrix products of the additive recurrence, forward and backward, to be
// inlined into their SIMD targets. Both read scratch tiles and hand each vector
// of the result, still in a register, to a function object:
//
//   Scores  q_i . k_j of each pair of tokens: lanes are tokens j.
//   Mix     sums over tokens (or features): lanes are features.
//
// The part of the pairs that a causal tile does not have is skipped at the
// granularity of a register block: almost half of the work of a parallel form.

#if defined(MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
#undef MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

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

struct Nothing {
  HWY_INLINE void operator()() const {}
};

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
// tokens; with kLower, only for vectors that contain some j <= i. meanwhile()
// is called once for each block of sums, as it is by Mix.
template <Part kPart, typename T, class Store, class Meanwhile = Nothing>
HWY_INLINE void Scores(size_t rows, size_t cols, const Product<T>& product,
                       const Store& store, const Meanwhile& meanwhile = {}) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  for (size_t col = 0; col < cols; col += 2 * lanes) {
    size_t row = 0;
    if constexpr (kPart == Part::kLower) row = col / kBlockRows * kBlockRows;
    for (; row < rows; row += kBlockRows) {
      const size_t end =
          kPart == Part::kLower ? std::min(cols, row + kBlockRows) : cols;
      meanwhile();
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
template <Part kPart, typename T, class Collect, class Store,
          class Meanwhile = Nothing>
HWY_INLINE void Mix(size_t rows, size_t cols,
                    const CrossProduct<T, Collect>& cross,
                    const Product<T>& near, const Store& store,
                    const Meanwhile& meanwhile = {}) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  size_t col = 0;
  for (; col + lanes < cols; col += 2 * lanes) {
    for (size_t row = 0; row < rows; row += kBlockRows) {
      meanwhile();
      MixBlock<kPart, 2>(row, col, cross, near, store);
    }
  }
  if (col < cols) {
    for (size_t row = 0; row < rows; row += kBlockRows) {
      meanwhile();
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

// Entries (r, r) += value.
template <typename T>
HWY_INLINE void AddToDiagonal(T value, size_t rows, Tile<T> tile) {
  for (size_t r = 0; r < rows; ++r) tile.row(r)[r] += value;
}

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

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_INL_H_
