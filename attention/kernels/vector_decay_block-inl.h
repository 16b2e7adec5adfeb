// SPDX-License-Identifier: Apache-2.0
//
// Up to 16 tokens of the additive recurrence with a decay per key dimension, as
// its forward and backward both need them: decays multiplied up from both ends
// of the block, and the scores of its queries with its keys.

#if defined(MNEME_ATTENTION_KERNELS_VECTOR_DECAY_BLOCK_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_VECTOR_DECAY_BLOCK_INL_H_
#undef MNEME_ATTENTION_KERNELS_VECTOR_DECAY_BLOCK_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_VECTOR_DECAY_BLOCK_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/additive_recurrence-inl.h"
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/vector_decay_recurrence.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kBlockTokens = 16;

// state = diag(decay) state + sum.
template <typename T>
struct UpdateRows {
  const T* decay;
  Tile<T> state;

  template <class V>
  HWY_INLINE void operator()(size_t row, size_t col, V sum) const {
    const hn::DFromV<V> d;
    T* to = state.row(row) + col;
    hn::Store(hn::MulAdd(hn::Set(d, decay[row]), hn::Load(d, to), sum), d, to);
  }
};

// What forward and backward know of a block of up to kBlockTokens tokens.
template <typename T>
class DecayBlock {
 public:
  explicit DecayBlock(const VectorDecayRecurrence<T>& a)
      : a_(a), key_dim_(a.q.cols), value_dim_(a.v.cols) {}

  template <class Take>
  static Tile<T> TakeTile(size_t rows, size_t cols, const Take& take) {
    const size_t stride = Tile<T>::Stride(cols);
    return {take(Padded<T>(rows) * stride), stride};
  }

  template <class Take>
  void LayOut(const Take& take) {
    for (Tile<T>* tile : {&q, &k, &decay, &q_from_start, &k_to_end}) {
      *tile = TakeTile(kBlockTokens, key_dim_, take);
    }
    v = TakeTile(kBlockTokens, value_dim_, take);
    scores = TakeTile(kBlockTokens, kBlockTokens, take);
    decayed_keys_ = TakeTile(key_dim_, kBlockTokens, take);
    total = take(Padded<T>(key_dim_));
    bonus = take(Padded<T>(key_dim_));
  }

  bool reads_first() const { return a_.bonus != nullptr; }

  // Rows [begin, begin + rows) of keys and values with their decays.
  HWY_NOINLINE void LoadKeys(size_t begin, size_t rows) {
    const hn::ScalableTag<T> d;
    Stage(a_.k.Rows(begin, rows), k);
    Stage(a_.v.Rows(begin, rows), v);
    Stage(a_.log_decay.Rows(begin, rows), decay);
    const size_t padded_rows = Padded<T>(rows);
    for (size_t c = 0; c < key_dim_; c += hn::Lanes(d)) {
      auto product = hn::Set(d, T{1});
      for (size_t t = padded_rows; t-- > 0;) {
        T* const at = decay.row(t) + c;
        const auto factor = FastExpNonPositive(d, hn::Load(d, at));
        hn::Store(factor, d, at);
        hn::Store(hn::Mul(hn::Load(d, k.row(t) + c), product), d,
                  k_to_end.row(t) + c);
        product = hn::Mul(product, factor);
      }
      hn::Store(product, d, total + c);
    }
  }

  // After LoadKeys: queries times scale, and scores.
  HWY_NOINLINE void LoadQueries(size_t begin, size_t rows, T scale) {
    const hn::ScalableTag<T> d;
    Stage(a_.q.Rows(begin, rows), q, scale);
    for (size_t c = 0; c < key_dim_; c += hn::Lanes(d)) {
      auto product = hn::Set(d, T{1});
      for (size_t t = 0; t < Padded<T>(rows); ++t) {
        const auto factor = hn::Load(d, decay.row(t) + c);
        const auto query = hn::Load(d, q.row(t) + c);
        const auto next = hn::Mul(product, factor);
        hn::Store(hn::Mul(query, reads_first() ? product : next), d,
                  q_from_start.row(t) + c);
        product = next;
      }
    }
    for (size_t c = 0; c < Padded<T>(key_dim_); ++c) {
      bonus[c] = reads_first() && c < key_dim_ ? a_.bonus[c] : T{1};
    }
    Transpose(k, rows, key_dim_, decayed_keys_);
    for (size_t keys = 0; keys < rows; keys += hn::Lanes(d)) {
      for (size_t queries = keys / kQueries * kQueries; queries < rows;
           queries += kQueries) {
        if (reads_first()) {
          ComputeScores<true>(keys, queries, rows);
        } else {
          ComputeScores<false>(keys, queries, rows);
        }
      }
    }
    for (size_t t = 0; reads_first() && t < rows; ++t) {
      auto sum = hn::Zero(d);
      for (size_t c = 0; c < key_dim_; c += hn::Lanes(d)) {
        const auto key =
            hn::Mul(hn::Load(d, k.row(t) + c), hn::Load(d, bonus + c));
        sum = hn::MulAdd(hn::Load(d, q.row(t) + c), key, sum);
      }
      scores.row(t)[t] = hn::GetLane(hn::SumOfLanes(d, sum));
    }
  }

  // S = diag(total) S + sum_j k_to_end_j v_j^T.
  template <class Meanwhile = Nothing>
  HWY_NOINLINE void AddKeysTo(Tile<T> state, size_t rows,
                              const Meanwhile& meanwhile = {}) const {
    Mix<Part::kAll>(key_dim_, value_dim_, CrossProduct<T, Ignore>(),
                    ColumnsTimes(k_to_end, v, rows),
                    UpdateRows<T>{total, state}, meanwhile);
  }

  Tile<T> q, k, v;
  Tile<T> decay;         // e^g
  Tile<T> q_from_start;  // q times the decays between block start and read
  Tile<T> k_to_end;      // k times the decays after its token
  Tile<T> scores;        // [query][key]; unspecified where key > query
  T* total = nullptr;    // product of the block's decays, by key dimension
  T* bonus = nullptr;    // weight of the token itself; 1 if it reads last

 private:
  // Queries whose scores are in registers at once.
  static constexpr size_t kQueries = 8;
  static_assert(kBlockTokens % kQueries == 0);

  // Scores of queries [query, query + kQueries) with a vector of keys.
  // decayed_keys_[c][j] is k_jc decayed up to the token that reads it: lanes
  // are keys, so that a score needs no sum over lanes. Keys after the token
  // wait as they are.
  template <bool kReadsFirst>
  HWY_NOINLINE void ComputeScores(size_t key, size_t query, size_t rows) {
    const hn::ScalableTag<T> d;
    using V = hn::VFromD<decltype(d)>;
    decltype(hn::FirstN(d, 0)) earlier[kQueries];
    V sums[kQueries];
    Unroll<kQueries>([&](auto x) HWY_ATTR {
      const size_t i = query + x;
      earlier[x] = hn::FirstN(d, i < key ? 0 : i - key);
      sums[x] = hn::Zero(d);
    });
    // Copies, which the stores below cannot alias.
    const T* weights = q.row(query);
    const T* factors = decay.row(query);
    const size_t stride = q.stride, key_stride = decayed_keys_.stride;
    T* at = decayed_keys_.data + key;
    for (const T* const end = weights + key_dim_; weights < end;
         ++weights, ++factors, at += key_stride) {
      V keys = hn::Load(d, at);
      Unroll<kQueries>([&](auto x) HWY_ATTR __attribute__((always_inline)) {
        const V weight = hn::Set(d, weights[x * stride]);
        const V factor = hn::Set(d, factors[x * stride]);
        if constexpr (kReadsFirst) {
          sums[x] = hn::MulAdd(weight, keys, sums[x]);
        }
        keys = hn::IfThenElse(earlier[x], hn::Mul(keys, factor), keys);
        if constexpr (!kReadsFirst) {
          sums[x] = hn::MulAdd(weight, keys, sums[x]);
        }
      });
      hn::Store(keys, d, at);
    }
    Unroll<kQueries>([&](auto x) HWY_ATTR {
      hn::Store(query + x < rows ? sums[x] : hn::Zero(d), d,
                scores.row(query + x) + key);
    });
  }

  const VectorDecayRecurrence<T>& a_;
  const size_t key_dim_, value_dim_;
  Tile<T> decayed_keys_;
};

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_VECTOR_DECAY_BLOCK_INL_H_
