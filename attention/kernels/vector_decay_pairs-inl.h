// SPDX-License-Identifier: Apache-2.0
//
// The gradients by queries, keys and decays of the scores of a block of tokens
// (vector_decay_block-inl.h), given those by the scores. As in the forward,
// pairs of tokens are taken one by one only inside runs of four. A pair further
// apart is split at the start of the query's run: key and gradient decay up to
// there, and from there on, by factors that all pairs across it share. So
// decays cost a multiplication a key and run, not one a pair.

#if defined(MNEME_ATTENTION_KERNELS_VECTOR_DECAY_PAIRS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_VECTOR_DECAY_PAIRS_INL_H_
#undef MNEME_ATTENTION_KERNELS_VECTOR_DECAY_PAIRS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_VECTOR_DECAY_PAIRS_INL_H_
#endif

#include <cstddef>

#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/vector_decay_block-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// The gradient by g_t sums, over the pairs with key j < t and query i >= t, or
// i > t if queries read first, what the pair contributes. Nothing is
// subtracted. Padding tokens, whose queries and keys are zero, have gradients
// nobody reads.
template <bool kReadsFirst, typename T>
class PairGradients {
 public:
  // Adds to d_q, d_k and d_g; writes d_bonus. d_scores[i][j] is the gradient by
  // the score of query i and key j <= i < rows.
  PairGradients(const DecayBlock<T>& block, size_t rows, Tile<T> d_scores,
                Tile<T> d_q, Tile<T> d_k, Tile<T> d_g, Tile<T> d_bonus)
      : block_(block),
        rows_(rows),
        runs_((rows + kRunTokens - 1) / kRunTokens),
        d_scores_(d_scores),
        d_q_(d_q),
        d_k_(d_k),
        d_g_(d_g),
        d_bonus_(d_bonus) {}

  // For the key dimensions from c, one a lane.
  HWY_INLINE void AddColumns(size_t c) {
    c_ = c;
    bonus_ = hn::Load(D(), block_.bonus + c);
    d_bonus_sum_ = hn::Zero(D());
    for (size_t run = 0; run < runs_; ++run) AddToQueries(run);
    for (size_t run = runs_; run-- > 0;) AddToEarlierKeys(run);
    hn::Store(d_bonus_sum_, D(), d_bonus_.data + c);
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  using Run = V[kRunTokens];
  static constexpr size_t kRuns = kBlockTokens / kRunTokens;

  HWY_INLINE V At(Tile<T> tile, size_t t) const {
    return hn::Load(D(), tile.row(t) + c_);
  }
  HWY_INLINE V Score(size_t i, size_t j) const {
    return hn::Set(D(), d_scores_.row(i)[j]);
  }
  HWY_INLINE void Add(V v, Tile<T> tile, size_t t) const {
    hn::Store(hn::Add(v, At(tile, t)), D(), tile.row(t) + c_);
  }
  static HWY_INLINE void SetToZero(Run& run) {
    Unroll<kRunTokens>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
      run[i] = hn::Zero(D());
    });
  }

  // A run's queries with all keys up to them, and its keys with its queries.
  HWY_INLINE void AddToQueries(size_t run) {
    const D d;
    const size_t first = run * kRunTokens;
    Run q, k, decay, from_start;  // from the run's start to the read
    V product = hn::Set(d, T{1});
    Unroll<kRunTokens>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
      q[i] = At(block_.q, first + i);
      k[i] = At(block_.k, first + i);
      decay[i] = At(block_.decay, first + i);
      const V next = hn::Mul(product, decay[i]);
      from_start[i] = kReadsFirst ? product : next;
      queries_[first + i] = hn::Mul(q[i], from_start[i]);
      product = next;
    });
    run_decay_[run] = product;

    // With the keys of earlier runs.
    Run d_q;
    SetToZero(d_q);
    for (size_t j = 0; j < first; ++j) {
      const V key = keys_[run][j];
      Unroll<kRunTokens>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
        d_q[i] = hn::MulAdd(Score(first + i, j), key, d_q[i]);
      });
      if (run + 1 < runs_) keys_[run + 1][j] = hn::Mul(key, product);
    }
    Run d_g;
    V later = hn::Zero(d);
    Unroll<kRunTokens>([&](auto n) HWY_ATTR __attribute__((always_inline)) {
      constexpr size_t i = kRunTokens - 1 - decltype(n)::value;
      d_q[i] = hn::Mul(d_q[i], from_start[i]);
      if constexpr (kReadsFirst) d_g[i] = later;
      later = hn::MulAdd(q[i], d_q[i], later);
      if constexpr (!kReadsFirst) d_g[i] = later;
    });

    // With the run's own. faded[i][j] is key j decayed up to token i - 1.
    Run faded[kRunTokens];
    Unroll<kRunTokens>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
      constexpr size_t kToken = decltype(i)::value;
      Unroll<kToken>([&](auto j) HWY_ATTR __attribute__((always_inline)) {
        const V before = kToken == j + 1 ? k[j] : faded[0][j];
        faded[kToken][j] = before;
        faded[0][j] = hn::Mul(before, decay[kToken]);
        d_q[kToken] =
            hn::MulAdd(Score(first + kToken, first + j),
                       kReadsFirst ? before : faded[0][j], d_q[kToken]);
      });
      const V own = hn::Mul(Score(first + kToken, first + kToken), bonus_);
      Add(hn::MulAdd(own, k[kToken], d_q[kToken]), d_q_, first + kToken);
    });
    Unroll<kRunTokens>([&](auto j) HWY_ATTR __attribute__((always_inline)) {
      constexpr size_t kKey = decltype(j)::value;
      V sum = hn::Zero(d);  // of later queries, decayed back to t
      Unroll<kRunTokens - 1 - kKey>([&](
          auto n) HWY_ATTR __attribute__((always_inline)) {
        constexpr size_t t = kRunTokens - 1 - decltype(n)::value;
        const V score = Score(first + t, first + kKey);
        if constexpr (!kReadsFirst) sum = hn::MulAdd(score, q[t], sum);
        sum = hn::Mul(sum, decay[t]);
        d_g[t] = hn::MulAdd(faded[t][kKey], sum, d_g[t]);
        if constexpr (kReadsFirst) sum = hn::MulAdd(score, q[t], sum);
      });
      const V own = hn::Mul(Score(first + kKey, first + kKey), q[kKey]);
      Add(hn::MulAdd(own, bonus_, sum), d_k_, first + kKey);
      Add(d_g[kKey], d_g_, first + kKey);
      if (kReadsFirst && first + kKey < rows_) {
        d_bonus_sum_ = hn::MulAdd(own, k[kKey], d_bonus_sum_);
      }
      if (run + 1 < runs_) {
        keys_[run + 1][first + kKey] =
            kKey + 1 == kRunTokens ? k[kKey] : faded[0][kKey];
      }
    });
  }

  // What later runs' queries give to this one's keys and decays, and this run's
  // queries to the keys of earlier ones.
  HWY_INLINE void AddToEarlierKeys(size_t run) {
    const D d;
    const size_t first = run * kRunTokens;
    const bool last = run + 1 == runs_;
    Run d_g;
    SetToZero(d_g);
    if (!last) {
      Run d_k;
      V to_end = hn::Set(d, T{1});
      Unroll<kRunTokens>([&](auto n) HWY_ATTR __attribute__((always_inline)) {
        constexpr size_t j = kRunTokens - 1 - decltype(n)::value;
        d_k[j] = hn::Mul(d_keys_[first + j], to_end);
        Add(d_k[j], d_k_, first + j);
        to_end = hn::Mul(to_end, At(block_.decay, first + j));
      });
      V earlier = hn::Zero(d);
      Unroll<kRunTokens>([&](auto t) HWY_ATTR __attribute__((always_inline)) {
        d_g[t] = earlier;
        earlier = hn::MulAdd(At(block_.k, first + t), d_k[t], earlier);
      });
    }
    if (run > 0) {
      V across[2] = {hn::Zero(d), hn::Zero(d)};  // two chains
      for (size_t j = 0; j < first; j += 2) {
        Unroll<2>([&](auto n) HWY_ATTR __attribute__((always_inline)) {
          V d_key = hn::Zero(d);
          if (!last) {
            d_key = hn::Mul(d_keys_[j + n], run_decay_[run]);
            across[n] = hn::MulAdd(keys_[run][j + n], d_key, across[n]);
          }
          Unroll<kRunTokens>([&](auto i) HWY_ATTR
                             __attribute__((always_inline)) {
                               d_key = hn::MulAdd(Score(first + i, j + n),
                                                  queries_[first + i], d_key);
                             });
          d_keys_[j + n] = d_key;
        });
      }
      if (!last) {
        const V sum = hn::Add(across[0], across[1]);
        Unroll<kRunTokens>([&](auto t) HWY_ATTR __attribute__((always_inline)) {
          d_g[t] = hn::Add(d_g[t], sum);
        });
      }
    }
    if (last) return;
    Unroll<kRunTokens>([&](auto t) HWY_ATTR __attribute__((always_inline)) {
      Add(d_g[t], d_g_, first + t);
    });
  }

  const DecayBlock<T>& block_;
  const size_t rows_, runs_;
  const Tile<T> d_scores_, d_q_, d_k_, d_g_, d_bonus_;
  size_t c_ = 0;
  V bonus_, d_bonus_sum_;
  V queries_[kBlockTokens];      // decayed from their run's start
  V run_decay_[kRuns];           // across it
  V keys_[kRuns][kBlockTokens];  // of earlier runs, decayed up to each's start
  V d_keys_[kBlockTokens];       // gradient by keys decayed up to a run's end
};

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_VECTOR_DECAY_PAIRS_INL_H_
