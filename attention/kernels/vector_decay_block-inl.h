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
#include "attention/kernels/lane_sums-inl.h"
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

// Tokens between which decays are multiplied up pair by pair. What is further
// apart meets at the start of the later one's run: queries decayed from there
// and keys decayed up to there, both by factors of at most 1, are two matrices
// whose product is the scores.
constexpr size_t kRunTokens = 4;
// Load takes whole runs of a padded block.
static_assert(kBlockRows % kRunTokens == 0);

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
    run_queries_ = TakeTile(kRunTokens, key_dim_, take);
    for (T** row : {&total, &bonus, &run_decay_, &zeros_}) {
      *row = take(Padded<T>(key_dim_));
    }
  }

  // After LayOut, before the first block.
  void Start() {
    std::fill_n(zeros_, Padded<T>(key_dim_), T{0});
    std::fill_n(bonus, Padded<T>(key_dim_), T{1});
    if (reads_first()) std::copy_n(a_.bonus, key_dim_, bonus);
  }

  bool reads_first() const { return a_.bonus != nullptr; }

  // Tokens [begin, begin + rows), queries times scale; q, k and decay only if
  // kKeep.
  template <bool kKeep>
  void Load(size_t begin, size_t rows, T scale) {
    Stage(a_.v.Rows(begin, rows), v);
    for (size_t first = 0; first < Padded<T>(rows); first += kRunTokens) {
      if (reads_first()) {
        LoadRun<true, kKeep>(begin, rows, first, scale);
      } else {
        LoadRun<false, kKeep>(begin, rows, first, scale);
      }
      ScoreEarlier(first);
    }
  }

  // Of that v, k_to_end and total alone, all that states are made of; not the
  // padding.
  void LoadKeys(size_t begin, size_t rows) {
    const D d;
    Stage(a_.v.Rows(begin, rows), v);
    ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      V product = hn::Set(d, T{1});
      for (size_t t = rows; t-- > 0;) {
        const V key = lanes.Load(a_.k.row(begin + t) + c);
        hn::Store(hn::Mul(key, product), d, k_to_end.row(t) + c);
        product = hn::Mul(
            product,
            FastExpNonPositive(d, lanes.Load(a_.log_decay.row(begin + t) + c)));
      }
      hn::Store(product, d, total + c);
    });
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
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;

  // The tokens of a run. Those that the block does not have are zero, and do
  // not decay.
  struct Run {
    size_t first;
    const T* q[kRunTokens];
    const T* k[kRunTokens];
    const T* log_decay[kRunTokens];
  };
  using RunScores = V[kRunTokens][kRunTokens];  // [query][key]

  // All of a run of tokens, from `first` of the block, but its queries' scores
  // with keys before it.
  template <bool kReadsFirst, bool kKeep>
  HWY_NOINLINE void LoadRun(size_t begin, size_t rows, size_t first, T scale) {
    const D d;
    Run run;
    run.first = first;
    for (size_t i = 0; i < kRunTokens; ++i) {
      const bool exists = first + i < rows;
      const size_t t = begin + first + i;
      run.q[i] = exists ? a_.q.row(t) : zeros_;
      run.k[i] = exists ? a_.k.row(t) : zeros_;
      run.log_decay[i] = exists ? a_.log_decay.row(t) : zeros_;
    }
    RunScores sums;
    SetToZero(sums);
    size_t c = 0;
    for (; c + hn::Lanes(d) <= key_dim_; c += hn::Lanes(d)) {
      LoadColumns<kReadsFirst, kKeep>(run, c, AllLanes<D>(), scale, sums);
    }
    if (c < key_dim_) {
      LoadColumns<kReadsFirst, kKeep>(run, c, FirstLanes<D>{key_dim_ - c},
                                      scale, sums);
    }
    StoreScores<kRunTokens>(sums, first, first);
  }

  // A vector of key dimensions of all that.
  template <bool kReadsFirst, bool kKeep, class Lanes>
  HWY_INLINE void LoadColumns(const Run& run, size_t c, const Lanes& lanes,
                              T scale, RunScores& sums) {
    const D d;
    V q_run, product = hn::Set(d, T{1});  // of the run's decays
    const V before = run.first == 0 ? product : hn::Load(d, total + c);
    V k[kRunTokens];  // keys so far, decayed up to this token
    Unroll<kRunTokens>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
      constexpr size_t kToken = decltype(i)::value;
      const size_t row = run.first + kToken;
      const V factor =
          FastExpNonPositive(d, lanes.Load(run.log_decay[kToken] + c));
      const V q = hn::Mul(lanes.Load(run.q[kToken] + c), hn::Set(d, scale));
      k[kToken] = lanes.Load(run.k[kToken] + c);
      if constexpr (kKeep) {
        hn::Store(q, d, this->q.row(row) + c);
        hn::Store(k[kToken], d, this->k.row(row) + c);
        hn::Store(factor, d, decay.row(row) + c);
      }
      Unroll<kToken>([&](auto j) HWY_ATTR __attribute__((always_inline)) {
        const V faded = hn::Mul(k[j], factor);
        sums[kToken][j] =
            hn::MulAdd(q, kReadsFirst ? k[j] : faded, sums[kToken][j]);
        k[j] = faded;
      });
      const V own =
          kReadsFirst ? hn::Mul(k[kToken], hn::Load(d, bonus + c)) : k[kToken];
      sums[kToken][kToken] = hn::MulAdd(q, own, sums[kToken][kToken]);
      const V next = hn::Mul(product, factor);
      q_run = hn::Mul(q, kReadsFirst ? product : next);
      hn::Store(q_run, d, run_queries_.row(kToken) + c);
      hn::Store(hn::Mul(q_run, before), d, q_from_start.row(row) + c);
      product = next;
    });
    Unroll<kRunTokens>([&](auto j) HWY_ATTR __attribute__((always_inline)) {
      hn::Store(k[j], d, k_to_end.row(run.first + j) + c);
    });
    hn::Store(product, d, run_decay_ + c);
    hn::Store(hn::Mul(before, product), d, total + c);
  }

  // Queries of a run whose scores with kRunTokens keys are in registers at
  // once.
  static constexpr size_t kQueries =
      HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL ? 4 : 2;
  static_assert(kRunTokens % kQueries == 0);

  // The scores of the run from `first` with all keys before it, which decay
  // along the run then.
  HWY_NOINLINE void ScoreEarlier(size_t first) {
    const D d;
    for (size_t key = 0; key < first; key += kRunTokens) {
      for (size_t query = 0; query < kRunTokens; query += kQueries) {
        const bool last = query + kQueries == kRunTokens;
        V sums[kQueries][kRunTokens];
        SetToZero(sums);
        for (size_t c = 0; c < key_dim_; c += hn::Lanes(d)) {
          V k[kRunTokens];
          Unroll<kRunTokens>([&](auto j) HWY_ATTR
                             __attribute__((always_inline)) {
                               k[j] = hn::Load(d, k_to_end.row(key + j) + c);
                             });
          Unroll<kQueries>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
            const V q = hn::Load(d, run_queries_.row(query + i) + c);
            Unroll<kRunTokens>([&](auto j) HWY_ATTR
                               __attribute__((always_inline)) {
                                 sums[i][j] = hn::MulAdd(q, k[j], sums[i][j]);
                               });
          });
          const V factor = hn::Load(d, run_decay_ + c);
          if (!last) continue;
          Unroll<kRunTokens>([&](
              auto j) HWY_ATTR __attribute__((always_inline)) {
            hn::Store(hn::Mul(k[j], factor), d, k_to_end.row(key + j) + c);
          });
        }
        StoreScores<kQueries>(sums, first + query, key);
      }
    }
  }

  template <size_t kRows>
  static HWY_INLINE void SetToZero(V (&sums)[kRows][kRunTokens]) {
    Unroll<kRows>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
      Unroll<kRunTokens>([&](auto j) HWY_ATTR __attribute__((always_inline)) {
        sums[i][j] = hn::Zero(D());
      });
    });
  }

  template <size_t kRows>
  HWY_INLINE void StoreScores(const V (&sums)[kRows][kRunTokens], size_t query,
                              size_t key) {
    constexpr size_t kAtOnce = kBlockLanes<T>;
    Unroll<kRows>([&](auto i) HWY_ATTR __attribute__((always_inline)) {
      Unroll<kRunTokens / kAtOnce>([&](
          auto j) HWY_ATTR __attribute__((always_inline)) {
        StoreSumsOfLanes(sums[i] + j * kAtOnce,
                         scores.row(query + i) + key + j * kAtOnce);
      });
    });
  }

  const VectorDecayRecurrence<T>& a_;
  const size_t key_dim_, value_dim_;
  Tile<T> run_queries_;  // q times the decays between its run's start and read
  T* run_decay_ = nullptr;  // product of a run's decays, by key dimension
  T* zeros_ = nullptr;      // a row
};

}  // namespace recurrence
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_VECTOR_DECAY_BLOCK_INL_H_
