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
#include <cstring>
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

// Attention of a few pairs of vectors of queries to all keys that they see.
// Pairs take turns with each block of keys, which so comes from the
// second-level cache for all but the first of them: where the rows of a head
// lie a power of two apart, a longer piece of them would not stay there.
template <typename T>
class ForwardPairs {
 public:
  static constexpr size_t kN = kLanes<T>;
  static constexpr size_t kPairs = 8;
  static constexpr size_t kMaxQueries = kPairs * 2 * kN;

  ForwardPairs(MatrixView<const T> k, MatrixView<const T> v,
               const AttentionMask& mask, SoftmaxScratch<T>& scratch)
      : k_(k),
        v_(v),
        mask_(mask),
        block_o_(scratch.Take(v.cols * kQueries)),
        weights_(scratch.Take(kKeyBlock * kQueries)),
        v_copy_(scratch.Take(kKeyBlock * CopyStride<T>(v.cols))),
        rows_(
            scratch.Take(kQueries * CopyStride<T>(std::max(k.cols, v.cols)))) {
    for (Pair& pair : pairs_) {
      pair.q = scratch.Take(k.cols * kQueries);
      pair.o = scratch.Take(v.cols * kQueries);
    }
  }

  // Elements of scratch memory that the constructor takes, in kArrays arrays.
  static constexpr size_t kArrays = 4 + 2 * kPairs;
  static size_t ScratchSize(size_t key_dim, size_t value_dim) {
    return (kPairs * (key_dim + value_dim) + value_dim + kKeyBlock) * kQueries +
           kKeyBlock * CopyStride<T>(value_dim) +
           kQueries * CopyStride<T>(std::max(key_dim, value_dim));
  }

  // Queries [first, first + count), 0 < count <= kMaxQueries. factor is the
  // scale times log2(e). Returns whether some output is not finite.
  bool Run(MatrixView<const T> q, size_t first, size_t count, T factor,
           MatrixView<T> o, T* lse) {
    size_t pairs = 0;
    for (size_t i = 0; i < count; i += kQueries) {
      Load(q, first + i, std::min(count - i, kQueries), factor, pairs_[pairs]);
      ++pairs;
    }
    // Blocks start at multiples of their length, not at the first key in sight:
    // so the roundings of a query do not depend on its neighbours.
    const size_t end = pairs_[pairs - 1].end;
    for (size_t block = pairs_[0].begin / kKeyBlock * kKeyBlock; block < end;
         block += kKeyBlock) {
      const MatrixView<const T> values =
          ValuesOf(block, std::min(block + kKeyBlock, end), pairs);
      for (size_t i = 0; i < pairs; ++i) {
        Pair& pair = pairs_[i];
        const size_t begin = std::max(block, pair.begin);
        const size_t block_end = std::min(block + kKeyBlock, pair.end);
        if (begin < block_end) AddBlock(block, begin, block_end, values, pair);
        PrefetchShare(block + kKeyBlock, end, i, pairs);
      }
    }
    bool finite = true;
    for (size_t i = 0; i < pairs; ++i) finite &= Finish(pairs_[i], o, lse);
    return finite;
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr size_t kQueries = 2 * kN;
  static constexpr size_t kKeyBlock = 128;

  struct Pair {
    size_t first;  // query
    size_t count;  // of queries, up to kQueries
    size_t vecs;   // in use
    VectorKeys keys[2];
    size_t begin;  // of the keys that some query sees
    size_t end;
    T* q;  // [key_dim][kQueries], scaled
    T* o;  // [value_dim][kQueries], relative to maximum
    // The greatest score so far, finite from the start so that exp(-inf - it)
    // is 0, and the sum of weights relative to it.
    HWY_ALIGN T maximum[kQueries];
    HWY_ALIGN T sum[kQueries];
  };

  void Load(MatrixView<const T> q, size_t first, size_t count, T factor,
            Pair& pair) const {
    pair.first = first;
    pair.count = count;
    pair.vecs = count > kN ? 2 : 1;
    if (count != pair.vecs * kN) {
      std::fill_n(pair.q, k_.cols * kQueries, T{0});
    }
    MatrixView<const T> rows = q.Rows(first, count);
    if (Scattered<T>(q.stride)) rows = Copy(rows, rows_);
    Transpose<Old::kIgnore>(rows.data, rows.stride, count, k_.cols, factor,
                            pair.q, kQueries);
    std::fill_n(pair.maximum, kQueries, std::numeric_limits<T>::lowest());
    std::fill_n(pair.sum, kQueries, T{0});
    const size_t last = first + count - 1;
    pair.keys[0] = {mask_, k_.rows, first, std::min(first + kN - 1, last)};
    pair.keys[1] = {mask_, k_.rows, std::min(first + kN, last), last};
    pair.begin = pair.keys[0].some.begin;
    pair.end = pair.keys[pair.vecs - 1].some.end;
  }

  static MatrixView<const T> Copy(MatrixView<const T> rows, T* memory) {
    const MatrixView<T> copy(memory, rows.rows, rows.cols,
                             CopyStride<T>(rows.cols));
    CopyRows<T>(rows, copy);
    return copy;
  }

  // The values of keys [begin, end), copied if scattered and read by several
  // pairs: the products run down columns.
  MatrixView<const T> ValuesOf(size_t begin, size_t end, size_t pairs) const {
    constexpr size_t kMinPairs = 4;
    const MatrixView<const T> rows = v_.Rows(begin, end - begin);
    const bool copy = Scattered<T>(v_.stride) && pairs >= kMinPairs;
    return copy ? Copy(rows, v_copy_) : rows;
  }

  // Brings the i-th of n shares of the next block of keys and values, those up
  // to `end`, to the second-level cache.
  void PrefetchShare(size_t block, size_t end, size_t i, size_t n) const {
    const size_t rows = std::min(kKeyBlock, end - std::min(block, end));
    for (const MatrixView<const T>* m : {&k_, &v_}) {
      for (size_t r = block + rows * i / n; r < block + rows * (i + 1) / n;
           ++r) {
        for (size_t c = 0; c < m->cols; c += 64 / sizeof(T)) {
          __builtin_prefetch(m->row(r) + c, /*rw=*/0, /*locality=*/2);
        }
      }
    }
  }

  // Keys [begin, end) of the block of keys that starts at `block`, with values.
  HWY_INLINE void AddBlock(size_t block, size_t begin, size_t end,
                           MatrixView<const T> values, Pair& pair) {
    const bool first = block <= pair.begin;
    const VectorKeys* const keys = pair.keys;
    const auto for_each_section = [&](const auto& body) HWY_ATTR {
      ForEachSection(begin, end, keys[0].some.end, pair.vecs, body);
    };
    HWY_ALIGN T maximum[kQueries];
    HWY_ALIGN T sum[kQueries] = {};
    std::copy_n(pair.maximum, kQueries, maximum);
    for_each_section([&](const Section& s, auto vecs) HWY_ATTR {
      T* const scores = weights_ + (s.begin - block) * kQueries + s.vec * kN;
      Product<vecs(), Old::kIgnore>(
          RowsOf<T>{k_.row(s.begin), k_.stride}, s.end - s.begin, k_.cols,
          pair.q + s.vec * kN, kQueries, scores, kQueries);
      for (size_t i = 0; i < vecs(); ++i) {
        MaskScores(mask_, keys[s.vec + i], s.begin, s.end, scores + i * kN,
                   kQueries);
      }
      FindMaximum<vecs()>(scores, s.end - s.begin, maximum + s.vec * kN);
    });
    // Outputs of later blocks are summed apart and then added: with thousands
    // of keys a single running sum would lose digits.
    T* const o = first ? pair.o : block_o_;
    for_each_section([&](const Section& s, auto vecs) HWY_ATTR {
      T* const weights = weights_ + (s.begin - block) * kQueries + s.vec * kN;
      Exponentiate<vecs()>(weights, s.end - s.begin, maximum + s.vec * kN,
                           sum + s.vec * kN);
      const ColumnsOf<T> v{values.row(s.begin - block), values.stride};
      T* const to = o + s.vec * kN;
      if (s.begin == begin) {
        Product<vecs(), Old::kIgnore>(v, v_.cols, s.end - s.begin, weights,
                                      kQueries, to, kQueries);
      } else {
        Product<vecs(), Old::kAdd>(v, v_.cols, s.end - s.begin, weights,
                                   kQueries, to, kQueries);
      }
    });
    Merge(maximum, sum, first, keys[0].some.end > begin ? 0 : pair.vecs - 1,
          pair);
  }

  // maximum = max(maximum, scores), per lane.
  template <size_t kVecs>
  static HWY_INLINE void FindMaximum(const T* HWY_RESTRICT scores, size_t keys,
                                     T* HWY_RESTRICT maximum) {
    const D d;
    constexpr size_t kChains = 4;  // else latency would rule
    V max[kChains][kVecs];
    for (size_t c = 0; c < kChains; ++c) {
      for (size_t i = 0; i < kVecs; ++i) {
        max[c][i] = hn::Load(d, maximum + i * kN);
      }
    }
    const auto add = [&](size_t c, const T* score) HWY_ATTR {
      HWY_UNROLL(2) for (size_t i = 0; i < kVecs; ++i) {
        max[c][i] = hn::Max(max[c][i], hn::Load(d, score + i * kN));
      }
    };
    size_t key = 0;
    for (; key + kChains <= keys; key += kChains) {
      HWY_UNROLL(4) for (size_t c = 0; c < kChains; ++c) {
        add(c, scores + (key + c) * kQueries);
      }
    }
    for (; key < keys; ++key) add(0, scores + key * kQueries);
    for (size_t i = 0; i < kVecs; ++i) {
      hn::Store(
          hn::Max(hn::Max(max[0][i], max[1][i]), hn::Max(max[2][i], max[3][i])),
          d, maximum + i * kN);
    }
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
                        const T* HWY_RESTRICT sum, bool first, size_t vec,
                        Pair& pair) const {
    const D d;
    for (size_t i = vec * kN; i < pair.vecs * kN; i += kN) {
      const V max = hn::Load(d, maximum + i);
      const V factor =
          FastExp2NonPositive(d, hn::Sub(hn::Load(d, pair.maximum + i), max));
      hn::Store(max, d, pair.maximum + i);
      hn::Store(
          hn::MulAdd(hn::Load(d, pair.sum + i), factor, hn::Load(d, sum + i)),
          d, pair.sum + i);
      if (first) continue;
      for (size_t c = i; c < i + v_.cols * kQueries; c += kQueries) {
        hn::Store(hn::MulAdd(hn::Load(d, pair.o + c), factor,
                             hn::Load(d, block_o_ + c)),
                  d, pair.o + c);
      }
    }
  }

  // Divides by the sums and stores.
  HWY_INLINE bool Finish(Pair& pair, MatrixView<T> o, T* lse) const {
    const size_t first = pair.first, count = pair.count;
    const D d;
    constexpr T kLn2 = static_cast<T>(0.69314718055994530942);
    bool finite = true;
    HWY_ALIGN T log_sum[kQueries];
    for (size_t i = 0; i < pair.vecs * kN; i += kN) {
      const V sum = hn::Load(d, pair.sum + i);
      const V inverse = hn::Div(hn::Set(d, T{1}), sum);
      V check = hn::Zero(d);
      for (size_t c = 0; c < v_.cols; ++c) {
        T* const element = pair.o + c * kQueries + i;
        const V value = hn::Mul(hn::Load(d, element), inverse);
        hn::Store(value, d, element);
        check = hn::MulAdd(value, hn::Zero(d), check);  // NaN unless finite
      }
      // The sum is at least 1 where it is a number; there, Log is defined.
      const auto valid = hn::Gt(sum, hn::Zero(d));
      finite &= hn::AllTrue(d, hn::Eq(check, check)) && hn::AllTrue(d, valid);
      if (lse == nullptr) continue;
      const V value = hn::MulAdd(hn::Load(d, pair.maximum + i),
                                 hn::Set(d, kLn2), hn::Log(d, sum));
      hn::Store(hn::IfThenElse(valid, value, hn::NaN(d)), d, log_sum + i);
    }
    const MatrixView<T> results = o.Rows(first, count);
    const bool scattered = Scattered<T>(o.stride);
    const MatrixView<T> rows =
        scattered ? MatrixView<T>(rows_, count, v_.cols, CopyStride<T>(v_.cols))
                  : results;
    Transpose<Old::kIgnore>(pair.o, kQueries, v_.cols, count, T{1}, rows.data,
                            rows.stride);
    if (scattered) CopyRows<T>(rows, results);
    if (lse != nullptr) std::copy_n(log_sum, count, lse + first);
    return finite;
  }

  const MatrixView<const T> k_;
  const MatrixView<const T> v_;
  const AttentionMask mask_;
  T* const block_o_;  // like a pair's o, of one block of keys
  T* const weights_;  // [kKeyBlock][kQueries], before that scores
  T* const v_copy_;   // [kKeyBlock] rows of values
  T* const rows_;     // [kQueries] rows of queries or outputs
  Pair pairs_[kPairs];
};

template <typename T>
void Forward(MatrixView<const T> q, MatrixView<const T> k,
             MatrixView<const T> v, T scale, const AttentionMask& mask,
             MatrixView<T> o, T* lse) {
  using Pairs = ForwardPairs<T>;
  using Rows = RowAttention<T>;
  SoftmaxScratch<T> scratch(
      Pairs::kArrays + Rows::kArrays,
      Pairs::ScratchSize(q.cols, v.cols) + Rows::ScratchSize(q.cols, v.cols));
  const T factor = scale * kLog2E<T>;
  Rows few(k, v, factor, scratch);
  const auto row = [&](size_t r) -> AttentionRow<T> {
    return {q.row(r), o.row(r), lse == nullptr ? nullptr : lse + r,
            VisibleKeys(mask, k.rows, r)};
  };

  // Lanes pay from half a vector of queries on.
  if (q.rows <= std::min(kLanes<T> / 2, Rows::kMaxRows)) {
    AttentionRow<T> rows[Rows::kMaxRows];
    for (size_t r = 0; r < q.rows; ++r) rows[r] = row(r);
    if (q.rows != 0) few.Run(rows, q.rows);
    return;
  }
  Pairs pairs(k, v, mask, scratch);
  const bool all_see_all = !mask.causal && mask.window == 0 && k.rows != 0;
  for (size_t first = 0; first < q.rows; first += Pairs::kMaxQueries) {
    const size_t count = std::min(q.rows - first, Pairs::kMaxQueries);
    const bool finite = pairs.Run(q, first, count, factor, o, lse);
    // A weight of 0 times a value that is not finite is NaN. Queries that do
    // not see such a value but share a tile with it are done again, alone; so
    // are those that see no key at all and have divided by 0.
    if (finite || all_see_all) continue;
    for (size_t r = first; r < first + count; ++r) {
      const AttentionRow<T> alone = row(r);
      if (alone.keys.empty() || Rows::HasNaN(alone.o, o.cols)) {
        few.Run(&alone, 1);
      }
    }
  }
}

template <typename T>
void ForwardBiased(MatrixView<const T> q, MatrixView<const T> k,
                   MatrixView<const T> v, T scale, MatrixView<const T> bias,
                   MatrixView<T> o) {
  using Rows = RowAttention<T>;
  SoftmaxScratch<T> scratch(Rows::kArrays, Rows::ScratchSize(q.cols, v.cols));
  Rows few(k, v, scale * kLog2E<T>, scratch);
  for (size_t first = 0; first < q.rows; first += Rows::kMaxRows) {
    const size_t count = std::min(q.rows - first, Rows::kMaxRows);
    AttentionRow<T> rows[Rows::kMaxRows];
    for (size_t r = 0; r < count; ++r) {
      rows[r] = {q.row(first + r),
                 o.row(first + r),
                 /*lse=*/nullptr,
                 {0, k.rows},
                 bias.row(first + r)};
    }
    few.Run(rows, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_FORWARD_INL_H_
