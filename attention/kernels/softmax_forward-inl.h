// SPDX-License-Identifier: Apache-2.0
//
// Forward pass of softmax attention for many queries, kept in lanes: scores,
// weights and outputs are computed transposed, so that maxima and sums over
// keys need no horizontal operation and masks are per lane. Scores are in base
// 2: log2(e) is part of the factor that the queries are scaled by.

#if defined(MNEME_ATTENTION_KERNELS_SOFTMAX_FORWARD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SOFTMAX_FORWARD_INL_H_
#undef MNEME_ATTENTION_KERNELS_SOFTMAX_FORWARD_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SOFTMAX_FORWARD_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_mask-inl.h"
#include "attention/kernels/softmax_rows-inl.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Attention of up to two vectors of queries to all keys that they see.
template <typename T>
class ForwardPair {
 public:
  static constexpr size_t kN = kLanes<T>;
  static constexpr size_t kQueries = 2 * kN;

  ForwardPair(MatrixView<const T> k, MatrixView<const T> v,
              const AttentionMask& mask, SoftmaxScratch<T>& scratch)
      : k_(k),
        v_(v),
        mask_(mask),
        q_(scratch.Take(k.cols * kQueries)),
        o_(scratch.Take(v.cols * kQueries)),
        block_o_(scratch.Take(v.cols * kQueries)),
        weights_(scratch.Take(kKeyBlock * kQueries)) {}

  // Elements of scratch memory that the constructor takes, in kArrays arrays.
  static constexpr size_t kArrays = 4;
  static size_t ScratchSize(size_t key_dim, size_t value_dim) {
    return (key_dim + 2 * value_dim + kKeyBlock) * kQueries;
  }

  // Queries [first, first + count), 0 < count <= kQueries. factor is the scale
  // times log2(e). Returns whether some output is not finite.
  bool Run(MatrixView<const T> q, size_t first, size_t count, T factor,
           MatrixView<T> o, T* lse) {
    vecs_ = count > kN ? 2 : 1;
    if (count != vecs_ * kN) std::fill_n(q_, k_.cols * kQueries, T{0});
    Transpose<Old::kIgnore>(q.row(first), q.stride, count, k_.cols, factor, q_,
                            kQueries);
    std::fill_n(maximum_, kQueries, std::numeric_limits<T>::lowest());
    std::fill_n(sum_, kQueries, T{0});

    const size_t last = first + count - 1;
    const VectorKeys keys[2] = {
        {mask_, k_.rows, first, std::min(first + kN - 1, last)},
        {mask_, k_.rows, std::min(first + kN, last), last}};
    const size_t begin = keys[0].some.begin;
    const size_t end = keys[vecs_ - 1].some.end;
    // Blocks start at multiples of their length, not at the first key in sight:
    // so the roundings of a query do not depend on its neighbours.
    const size_t first_block = begin / kKeyBlock * kKeyBlock;
    for (size_t block = first_block; block < end; block += kKeyBlock) {
      AddBlock(block, std::max(block, begin), std::min(block + kKeyBlock, end),
               keys, block == first_block);
    }
    return Finish(first, count, o, lse);
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr size_t kKeyBlock = 128;

  // Keys [begin, end) of the block of keys that starts at `block`.
  HWY_INLINE void AddBlock(size_t block, size_t begin, size_t end,
                           const VectorKeys* keys, bool first) {
    const auto for_each_section = [&](const auto& body) HWY_ATTR {
      ForEachSection(begin, end, keys[0].some.end, vecs_, body);
    };
    HWY_ALIGN T maximum[kQueries];
    HWY_ALIGN T sum[kQueries] = {};
    std::copy_n(maximum_, kQueries, maximum);
    for_each_section([&](const Section& s, auto vecs) HWY_ATTR {
      T* const scores = weights_ + (s.begin - block) * kQueries + s.vec * kN;
      Product<vecs(), Old::kIgnore>(RowsOf<T>{k_.row(s.begin), k_.stride},
                                    s.end - s.begin, k_.cols, q_ + s.vec * kN,
                                    kQueries, scores, kQueries);
      for (size_t i = 0; i < vecs(); ++i) {
        MaskScores(mask_, keys[s.vec + i], s.begin, s.end, scores + i * kN,
                   kQueries);
      }
      FindMaximum<vecs()>(scores, s.end - s.begin, maximum + s.vec * kN);
    });
    // Outputs of later blocks are summed apart and then added: with thousands
    // of keys a single running sum would lose digits.
    T* const o = first ? o_ : block_o_;
    for_each_section([&](const Section& s, auto vecs) HWY_ATTR {
      T* const weights = weights_ + (s.begin - block) * kQueries + s.vec * kN;
      Exponentiate<vecs()>(weights, s.end - s.begin, maximum + s.vec * kN,
                           sum + s.vec * kN);
      const ColumnsOf<T> v{v_.row(s.begin), v_.stride};
      T* const to = o + s.vec * kN;
      if (s.begin == begin) {
        Product<vecs(), Old::kIgnore>(v, v_.cols, s.end - s.begin, weights,
                                      kQueries, to, kQueries);
      } else {
        Product<vecs(), Old::kAdd>(v, v_.cols, s.end - s.begin, weights,
                                   kQueries, to, kQueries);
      }
    });
    Merge(maximum, sum, first, keys[0].some.end > begin ? 0 : vecs_ - 1);
  }

  // maximum = max(maximum, scores), per lane.
  template <size_t kVecs>
  static HWY_INLINE void FindMaximum(const T* HWY_RESTRICT scores, size_t keys,
                                     T* HWY_RESTRICT maximum) {
    const D d;
    V max[kVecs];
    for (size_t i = 0; i < kVecs; ++i) max[i] = hn::Load(d, maximum + i * kN);
    for (size_t key = 0; key < keys; ++key) {
      for (size_t i = 0; i < kVecs; ++i) {
        max[i] = hn::Max(max[i], hn::Load(d, scores + key * kQueries + i * kN));
      }
    }
    for (size_t i = 0; i < kVecs; ++i) hn::Store(max[i], d, maximum + i * kN);
  }

  // Exponentiate for keys that go through the exponential together.
  template <size_t kKeys, size_t kVecs>
  static HWY_INLINE void ExponentiateBatch(T* HWY_RESTRICT scores, const V* max,
                                           V* HWY_RESTRICT sum) {
    const D d;
    constexpr size_t kCount = kKeys * kVecs;
    V weight[kCount];
    HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
      const size_t at = i / kVecs * kQueries + i % kVecs * kN;
      weight[i] = hn::Sub(hn::Load(d, scores + at), max[i % kVecs]);
    }
    FastExp2NonPositive<kCount>(d, weight);
    HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
      const size_t at = i / kVecs * kQueries + i % kVecs * kN;
      hn::Store(weight[i], d, scores + at);
      sum[i % kVecs] = hn::Add(sum[i % kVecs], weight[i]);
    }
  }

  // Scores to weights relative to the maximum, which are added to the sum.
  template <size_t kVecs>
  static HWY_INLINE void Exponentiate(T* HWY_RESTRICT scores, size_t keys,
                                      const T* HWY_RESTRICT maximum,
                                      T* HWY_RESTRICT total) {
    const D d;
    V max[kVecs];
    V sum[kVecs];
    for (size_t i = 0; i < kVecs; ++i) {
      max[i] = hn::Load(d, maximum + i * kN);
      sum[i] = hn::Load(d, total + i * kN);
    }
    constexpr size_t kBatch = kExpBatch / kVecs;
    size_t key = 0;
    for (; key + kBatch <= keys; key += kBatch) {
      ExponentiateBatch<kBatch, kVecs>(scores + key * kQueries, max, sum);
    }
    for (; key < keys; ++key) {
      ExponentiateBatch<1, kVecs>(scores + key * kQueries, max, sum);
    }
    for (size_t i = 0; i < kVecs; ++i) hn::Store(sum[i], d, total + i * kN);
  }

  // Adds a block's sums and outputs to those of earlier blocks, brought to the
  // new maximum, for the vectors from `vec` on.
  HWY_INLINE void Merge(const T* HWY_RESTRICT maximum,
                        const T* HWY_RESTRICT sum, bool first, size_t vec) {
    const D d;
    for (size_t i = vec * kN; i < vecs_ * kN; i += kN) {
      const V max = hn::Load(d, maximum + i);
      const V factor =
          FastExp2NonPositive(d, hn::Sub(hn::Load(d, maximum_ + i), max));
      hn::Store(max, d, maximum_ + i);
      hn::Store(hn::MulAdd(hn::Load(d, sum_ + i), factor, hn::Load(d, sum + i)),
                d, sum_ + i);
      if (first) continue;
      for (size_t c = i; c < i + v_.cols * kQueries; c += kQueries) {
        hn::Store(
            hn::MulAdd(hn::Load(d, o_ + c), factor, hn::Load(d, block_o_ + c)),
            d, o_ + c);
      }
    }
  }

  // Divides by the sums and stores.
  HWY_INLINE bool Finish(size_t first, size_t count, MatrixView<T> o, T* lse) {
    const D d;
    constexpr T kLn2 = static_cast<T>(0.69314718055994530942);
    bool finite = true;
    HWY_ALIGN T log_sum[kQueries];
    for (size_t i = 0; i < vecs_ * kN; i += kN) {
      const V sum = hn::Load(d, sum_ + i);
      const V inverse = hn::Div(hn::Set(d, T{1}), sum);
      V check = hn::Zero(d);
      for (size_t c = 0; c < v_.cols; ++c) {
        T* const element = o_ + c * kQueries + i;
        const V value = hn::Mul(hn::Load(d, element), inverse);
        hn::Store(value, d, element);
        check = hn::MulAdd(value, hn::Zero(d), check);  // NaN unless finite
      }
      // The sum is at least 1 where it is a number; there, Log is defined.
      const auto valid = hn::Gt(sum, hn::Zero(d));
      finite &= hn::AllTrue(d, hn::Eq(check, check)) && hn::AllTrue(d, valid);
      if (lse == nullptr) continue;
      const V value = hn::MulAdd(hn::Load(d, maximum_ + i), hn::Set(d, kLn2),
                                 hn::Log(d, sum));
      hn::Store(hn::IfThenElse(valid, value, hn::NaN(d)), d, log_sum + i);
    }
    Transpose<Old::kIgnore>(o_, kQueries, v_.cols, count, T{1}, o.row(first),
                            o.stride);
    if (lse != nullptr) std::copy_n(log_sum, count, lse + first);
    return finite;
  }

  const MatrixView<const T> k_;
  const MatrixView<const T> v_;
  const AttentionMask mask_;
  T* const q_;        // [key_dim][kQueries], scaled
  T* const o_;        // [value_dim][kQueries], relative to maximum_
  T* const block_o_;  // likewise, of one block of keys
  T* const weights_;  // [kKeyBlock][kQueries], before that scores
  size_t vecs_ = 0;   // in use
  // The greatest score so far, finite from the start so that exp(-inf - it) is
  // 0, and the sum of weights relative to it.
  HWY_ALIGN T maximum_[kQueries];
  HWY_ALIGN T sum_[kQueries];
};

template <typename T>
void Forward(MatrixView<const T> q, MatrixView<const T> k,
             MatrixView<const T> v, T scale, const AttentionMask& mask,
             MatrixView<T> o, T* lse) {
  using Pair = ForwardPair<T>;
  using Rows = ForwardRows<T>;
  SoftmaxScratch<T> scratch(
      Pair::kArrays + Rows::kArrays,
      Pair::ScratchSize(q.cols, v.cols) + Rows::ScratchSize(q.cols, v.cols));
  Rows rows(k, v, mask, scratch);
  const T factor = scale * static_cast<T>(1.44269504088896340736);  // log2(e)

  // Lanes pay from half a vector of queries on.
  if (q.rows <= std::min(kLanes<T> / 2, Rows::kMaxRows)) {
    if (q.rows != 0) rows.Run(q, 0, q.rows, factor, o, lse);
    return;
  }
  Pair pair(k, v, mask, scratch);
  const bool all_see_all = !mask.causal && mask.window == 0 && k.rows != 0;
  for (size_t first = 0; first < q.rows; first += Pair::kQueries) {
    const size_t count = std::min(q.rows - first, Pair::kQueries);
    const bool finite = pair.Run(q, first, count, factor, o, lse);
    // A weight of 0 times a value that is not finite is NaN. Queries that do
    // not see such a value but share a tile with it are done again, alone; so
    // are those that see no key at all and have divided by 0.
    if (finite || all_see_all) continue;
    for (size_t r = first; r < first + count; ++r) {
      const KeyRange seen = VisibleKeys(mask, k.rows, r);
      if (seen.empty() || Rows::HasNaN(o.row(r), o.cols)) {
        rows.Run(q, r, 1, factor, o, lse);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_FORWARD_INL_H_
