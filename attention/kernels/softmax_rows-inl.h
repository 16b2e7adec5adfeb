// SPDX-License-Identifier: Apache-2.0
//
// Forward pass of softmax attention for few queries, as in decoding, where the
// time goes into reading keys and values once. Scores are dot products along
// the head dimension, and up to kMaxRows queries share what is read. Scores are
// in base 2: log2(e) is part of the factor that the queries are scaled by.

#if defined(MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
#undef MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Attention of up to kMaxRows queries to all keys that they see.
template <typename T>
class ForwardRows {
 public:
  static constexpr size_t kMaxRows = 8;

  ForwardRows(MatrixView<const T> k, MatrixView<const T> v,
              const AttentionMask& mask, SoftmaxScratch<T>& scratch)
      : k_(k),
        v_(v),
        mask_(mask),
        q_stride_(RoundUp(k.cols, kN)),
        o_stride_(RoundUp(v.cols, kN)),
        q_(scratch.Take(kMaxRows * q_stride_)),
        o_(scratch.Take(kMaxRows * o_stride_)),
        block_o_(scratch.Take(kMaxRows * o_stride_)),
        weights_(scratch.Take(kMaxRows * kStride)),
        ragged_(scratch.Take(kKeyBlock * kN)) {}

  // Elements of scratch memory that the constructor takes, in kArrays arrays.
  static constexpr size_t kArrays = 5;
  static size_t ScratchSize(size_t key_dim, size_t value_dim) {
    return kMaxRows * (RoundUp(key_dim, kN) + 2 * RoundUp(value_dim, kN)) +
           kMaxRows * kStride + kKeyBlock * kN;
  }

  // Queries [first, first + count), 0 < count <= kMaxRows. factor is the scale
  // times log2(e).
  void Run(MatrixView<const T> q, size_t first, size_t count, T factor,
           MatrixView<T> o, T* lse) {
    rows_ = count;
    CopyPadded(q.row(first), q.stride, count, k_.cols, q_, q_stride_);
    for (size_t i = 0; i < count * q_stride_; ++i) q_[i] *= factor;
    std::fill_n(o_, count * o_stride_, T{0});
    for (size_t r = 0; r < count; ++r) {
      keys_[r] = VisibleKeys(mask_, k_.rows, first + r);
      // Finite, so that a score of -inf is never subtracted from itself.
      maximum_[r] = std::numeric_limits<T>::lowest();
      sum_[r] = 0;
    }
    const size_t begin = keys_[0].begin;
    const size_t end = keys_[count - 1].end;
    for (size_t block = begin / kKeyBlock * kKeyBlock; block < end;
         block += kKeyBlock) {
      AddBlock(block, std::max(block, begin), std::min(block + kKeyBlock, end));
    }
    for (size_t r = 0; r < count; ++r) {
      Finish(r, o.row(first + r), lse == nullptr ? nullptr : lse + first + r);
    }
    if (begin == keys_[count - 1].begin && end == keys_[0].end) return;
    // A weight of 0 times a value that is not finite is NaN. Queries that do
    // not see such a value but share the block with it are done again, alone.
    for (size_t r = 0; r < count; ++r) {
      if (HasNaN(o.row(first + r), o.cols)) {
        Run(q, first + r, 1, factor, o, lse);
      }
    }
  }

  static bool HasNaN(const T* x, size_t n) {
    return std::any_of(x, x + n, [](T value) { return std::isnan(value); });
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr size_t kN = kLanes<T>;
  static constexpr size_t kKeyBlock = 64;
  // Between rows of weights; the last group of scores may overrun the block.
  static constexpr size_t kStride = kKeyBlock + RoundUp(kBlockLanes<T>, kN);
  static constexpr size_t kMaxGroup = 4;  // queries whose scores share a loop
  // Vectors of values summed together, and for how many queries: even a single
  // query gets 4 chains of multiply-adds, and 8, where rows are as wide as
  // that, so that they are read from end to end.
  static constexpr size_t kValueVecs = 4;
  static constexpr size_t kWideValueVecs = 8;
  static constexpr size_t kValueRows = kTileRows == 8 ? 4 : 2;
  // Keys whose dot products are summed across lanes together.
  static constexpr size_t kGroup = kBlockLanes<T>;
  // Columns in four cache lines.
  static constexpr size_t kNarrow = 4 * 64 / sizeof(T);

  // Keys [begin, end) of the block of keys that starts at `block`.
  void AddBlock(size_t block, size_t begin, size_t end) {
    const size_t keys = end - begin;
    const size_t whole = k_.cols / kN * kN;
    if (whole != k_.cols) {
      CopyPadded(k_.row(begin) + whole, k_.stride, keys, k_.cols - whole,
                 ragged_, kN);
    }
    size_t r = 0;
    for (; r + kMaxGroup <= rows_; r += kMaxGroup) {
      Scores<kMaxGroup>(r, block, begin, keys);
    }
    for (; r + 2 <= rows_; r += 2) Scores<2>(r, block, begin, keys);
    if (r < rows_) Scores<1>(r, block, begin, keys);

    T factor[kMaxRows];
    for (r = 0; r < rows_; ++r) factor[r] = Weights(r, block, end);
    AddValues(block, begin, end);
    const D d;
    for (r = 0; r < rows_; ++r) {
      const V f = hn::Set(d, factor[r]);
      for (size_t c = r * o_stride_; c < (r + 1) * o_stride_; c += kN) {
        hn::Store(hn::MulAdd(hn::Load(d, o_ + c), f, hn::Load(d, block_o_ + c)),
                  d, o_ + c);
      }
    }
  }

  // Scores of kRows queries from `row` on to keys [begin, begin + keys).
  template <size_t kRows>
  HWY_NOINLINE void Scores(size_t row, size_t block, size_t begin,
                           size_t keys) {
    const T* const q = q_ + row * q_stride_;
    T* const scores = weights_ + row * kStride + (begin - block);
    const size_t whole = k_.cols / kN * kN;
    const bool prefetch_values =
        rows_ > 1 || v_.stride != v_.cols || v_.cols <= kNarrow;
    for (size_t key = 0; key < keys; key += kGroup) {
      V sum[kRows][kGroup];
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          sum[r][g] = hn::Zero(D());
        }
      }
      // The last group repeats the last key.
      size_t index[kGroup];
      const T* k[kGroup];
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        index[g] = std::min(key + g, keys - 1);
        k[g] = k_.row(begin + index[g]);
      }
      if (row == 0) {
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          PrefetchRow(k_, begin + key + g + kKeyBlock);
          if (prefetch_values) PrefetchRow(v_, begin + key + g);
        }
      }
      for (size_t c = 0; c < whole; c += kN) AddDots<kRows>(q + c, k, c, sum);
      if (whole != k_.cols) {
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          k[g] = ragged_ + index[g] * kN;
        }
        AddDots<kRows>(q + whole, k, 0, sum);
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        StoreSumsOfLanes(sum[r], scores + r * kStride + key);
      }
    }
  }

  // Adds products of one vector of each query and one of each key.
  template <size_t kRows>
  HWY_INLINE void AddDots(const T* HWY_RESTRICT q, const T* const* k, size_t c,
                          V (&sum)[kRows][kGroup]) const {
    const D d;
    V k_c[kGroup];
    HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
      k_c[g] = hn::LoadU(d, k[g] + c);
    }
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      const V q_c = hn::Load(d, q + r * q_stride_);
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        sum[r][g] = hn::MulAdd(q_c, k_c[g], sum[r][g]);
      }
    }
  }

  // Turns a query's scores, of which those that it sees in [block, end) exist,
  // into weights relative to the maximum so far. Returns the factor that takes
  // earlier weights there.
  HWY_INLINE T Weights(size_t row, size_t block, size_t end) {
    constexpr T kInf = std::numeric_limits<T>::infinity();
    const D d;
    T* const weights = weights_ + row * kStride;
    const size_t padded = RoundUp(end - block, kN);
    const size_t first = std::min(std::max(keys_[row].begin, block), end);
    const size_t last = std::max(std::min(keys_[row].end, end), first);
    std::fill(weights, weights + (first - block), -kInf);
    std::fill(weights + (last - block), weights + padded, -kInf);

    V max = hn::Set(d, maximum_[row]);
    for (size_t i = 0; i < padded; i += kN) {
      max = hn::Max(max, hn::Load(d, weights + i));
    }
    max = hn::MaxOfLanes(d, max);
    V sum = hn::Zero(d);
    for (size_t i = 0; i < padded; i += kN) {
      const V weight =
          FastExp2NonPositive(d, hn::Sub(hn::Load(d, weights + i), max));
      hn::Store(weight, d, weights + i);
      sum = hn::Add(sum, weight);
    }
    const T factor = hn::GetLane(
        FastExp2NonPositive(d, hn::Sub(hn::Set(d, maximum_[row]), max)));
    sum_[row] = sum_[row] * factor + hn::GetLane(hn::SumOfLanes(d, sum));
    maximum_[row] = hn::GetLane(max);
    return factor;
  }

  // block_o_ = weights times values, for keys [begin, end).
  HWY_INLINE void AddValues(size_t block, size_t begin, size_t end) {
    const size_t keys = end - begin;
    const T* const weights = weights_ + (begin - block);
    const T* const v = v_.row(begin);
    size_t c = 0;
    if (rows_ == 1) {
      constexpr size_t kWide = kWideValueVecs * kN;
      for (; c + kWide <= v_.cols; c += kWide) {
        Tile<1, kWideValueVecs, Old::kIgnore>(RowsOf<T>{weights, kStride}, keys,
                                              v + c, v_.stride, block_o_ + c,
                                              o_stride_);
      }
    }
    for (; c + kValueVecs * kN <= v_.cols; c += kValueVecs * kN) {
      SumValues<kValueVecs>(weights, keys, v + c, v_.stride, block_o_ + c);
    }
    for (; c + kN <= v_.cols; c += kN) {
      SumValues<1>(weights, keys, v + c, v_.stride, block_o_ + c);
    }
    if (c == v_.cols) return;
    CopyPadded(v + c, v_.stride, keys, v_.cols - c, ragged_, kN);
    SumValues<1>(weights, keys, ragged_, kN, block_o_ + c);
  }

  // The same for some columns.
  template <size_t kVecs>
  HWY_NOINLINE void SumValues(const T* weights, size_t keys,
                              const T* HWY_RESTRICT v, size_t v_stride,
                              T* HWY_RESTRICT o) const {
    const auto sum = [&](size_t r, auto rows) HWY_ATTR {
      Tile<rows(), kVecs, Old::kIgnore>(
          RowsOf<T>{weights + r * kStride, kStride}, keys, v, v_stride,
          o + r * o_stride_, o_stride_);
    };
    size_t r = 0;
    for (; r + kValueRows <= rows_; r += kValueRows) {
      sum(r, std::integral_constant<size_t, kValueRows>());
    }
    if (kValueRows > 2 && r + 2 <= rows_) {
      sum(r, std::integral_constant<size_t, 2>());
      r += 2;
    }
    if (r < rows_) sum(r, std::integral_constant<size_t, 1>());
  }

  // Keeps the memory busy all the time: keys of the next block are on their way
  // while those of this one are multiplied, and so are values. Wide values of a
  // single query are left to the hardware if they lie one after the other: it
  // was measured that more requests are then in each other's way.
  static HWY_INLINE void PrefetchRow(const MatrixView<const T>& m, size_t row) {
    if (row >= m.rows) return;
    constexpr size_t kCacheLine = 64 / sizeof(T);
    for (size_t c = 0; c < m.cols; c += kCacheLine) {
      hwy::Prefetch(m.row(row) + c);
    }
  }

  void Finish(size_t row, T* o, T* lse) const {
    constexpr T kLn2 = static_cast<T>(0.69314718055994530942);
    constexpr T kInf = std::numeric_limits<T>::infinity();
    const bool blind = keys_[row].empty();
    for (size_t c = 0; c < v_.cols; ++c) {
      o[c] = blind ? 0 : o_[row * o_stride_ + c] / sum_[row];
    }
    if (lse != nullptr) {
      *lse = blind ? -kInf : maximum_[row] * kLn2 + std::log(sum_[row]);
    }
  }

  const MatrixView<const T> k_;
  const MatrixView<const T> v_;
  const AttentionMask mask_;
  const size_t q_stride_;
  const size_t o_stride_;
  T* const q_;        // [kMaxRows][q_stride_], scaled, zeros beyond key_dim
  T* const o_;        // [kMaxRows][o_stride_], relative to maximum_
  T* const block_o_;  // likewise, of one block of keys
  T* const weights_;  // [kMaxRows][kStride], before that scores
  T* const ragged_;   // [kKeyBlock][kN], columns that fill no vector
  size_t rows_ = 0;   // in use
  KeyRange keys_[kMaxRows];
  T maximum_[kMaxRows];
  T sum_[kMaxRows];
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_ROWS_INL_H_
