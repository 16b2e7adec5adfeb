// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstddef>

#include "attention/kernels/additive_recurrence.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/additive_recurrence_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/additive_recurrence-inl.h"
#include "attention/kernels/additive_step_backward-inl.h"
#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/decay_gradient-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// With queries already multiplied by the scale s and keys by their strengths b,
// decays D of one chunk, P_ij = (q_i . k_j) D_ij, M_ij = (d_o_i . v_j) D_ij and
// the gradient Z of the state behind the chunk,
//
//   d_q_i = s (D_i S d_o_i + sum_{j <= i} M_ij k_j)
//   d_k_j = D_j Z v_j      + sum_{i >= j} M_ij q_i
//   d_v_j = D_j Z^T k_j    + sum_{i >= j} P_ij d_o_i + u d_o_j
//   Z     = D Z            + sum_i D_i q_i d_o_i^T
//
// where D_i decays from the chunk's start to i, D_j from j to its end, and D
// across it. Of the keys as they were, the gradient is b_j d_k_j, and d_b_j is
// their product with d_k_j. The skip u adds to P_jj; its gradient is the sum of
// M_jj = d_o_j . v_j. The normaliser is one more column: of v, where it is 1,
// of d_o, of S and of Z.
template <typename T>
class Backward {
 public:
  Backward(const AdditiveRecurrence<T>& a, const T* saved,
           MatrixView<const T> d_o, const T* d_den, T* d_state,
           const AdditiveRecurrenceGradients<T>& gradients)
      : a_(a),
        length_(a.q.rows),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        columns_(value_dim_ + (a.normaliser ? 1 : 0)),
        saved_(saved),
        d_o_(d_o),
        d_den_(a.normaliser ? d_den : nullptr),
        d_state_(d_state),
        gradients_(gradients),
        decays_(a.log_decay != nullptr),
        wants_d_decay_(decays_ && gradients.d_log_decay != nullptr),
        skip_(a.skip == nullptr ? 0 : *a.skip) {}

  void Run() {
    if (length_ == 0) return;
    const size_t chunk = std::min(a_.chunk, length_);
    LayOutScratch<T>([&](const auto& take) { LayOut(chunk, take); });
    Stage<T>({d_state_, key_dim_, value_dim_}, d_s_);
    if (a_.normaliser) Stage<T>(ZOf(d_state_), d_z_);
    const size_t chunks = (length_ + chunk - 1) / chunk;
    for (size_t c = chunks; c-- > 0;) {
      const size_t begin = c * chunk;
      const size_t length = std::min(chunk, length_ - begin);
      const T* state =
          saved_ + c * AdditiveStateSize(key_dim_, value_dim_, a_.normaliser);
      if (length == 1) {
        StepBackward<T>({a_, d_o_, d_den_, state, d_s_, d_z_.data, d_v_sum_},
                        begin, gradients_);
      } else {
        RunChunk(begin, length, state);
      }
    }
    Unstage(d_s_, {d_state_, key_dim_, value_dim_});
    if (a_.normaliser) Unstage(d_z_, ZOf(d_state_));
  }

 private:
  template <class Take>
  void LayOut(size_t chunk, const Take& take) {
    const size_t tokens = std::min(kTile, chunk);
    const auto tile = [&](size_t rows, size_t cols) {
      const size_t stride = Tile<T>::Stride(cols);
      return Tile<T>{take(Padded<T>(rows) * stride), stride};
    };
    d_s_ = tile(key_dim_, value_dim_);
    d_z_ = tile(1, key_dim_);
    d_v_sum_ = take(Padded<T>(value_dim_));
    if (chunk == 1) return;
    q_ = tile(tokens, key_dim_);
    k_ = tile(tokens, key_dim_);
    k_transposed_ = tile(key_dim_, tokens);
    v_ = tile(tokens, columns_);
    v_transposed_ = tile(columns_, tokens);
    d_out_ = tile(tokens, columns_);
    s_ = tile(key_dim_, value_dim_);
    z_ = tile(1, key_dim_);
    s_transposed_ = tile(columns_, key_dim_);
    d_s_transposed_ = tile(columns_, key_dim_);
    p_ = tile(tokens, tokens);
    m_ = tile(tokens, tokens);
    if (a_.strength != nullptr) d_k_ = tile(tokens, key_dim_);
    if (decays_) decay_.LayOut(chunk, take);
    if (wants_d_decay_) {
      w_ = tile(tokens, tokens);
      d_decay_.LayOut(chunk, take);
    }
  }

  // The normaliser column of a state, as a row.
  template <typename U>
  MatrixView<U> ZOf(U* state) const {
    return {state + key_dim_ * value_dim_, 1, key_dim_};
  }

  void RunChunk(size_t begin, size_t length, const T* state) {
    if (decays_) decay_.Start(a_.log_decay + begin, length);
    if (wants_d_decay_) d_decay_.Start(length);
    LoadState(state);
    const size_t tiles = (length + kTile - 1) / kTile;
    const auto rows = [&](size_t tile) {
      return std::min(kTile, length - tile * kTile);
    };
    for (size_t key = 0; key < tiles; ++key) {
      FetchGradients(begin + key * kTile, rows(key));
      next_end_ = key + 1 == tiles ? begin : 0;
      LoadKeys(begin + key * kTile, rows(key));
      T gap = 1;
      for (size_t query = key; query < tiles; ++query) {
        LoadQueries(begin + query * kTile, rows(query));
        const Pair pair{
            key,       query,      begin + key * kTile, begin + query * kTile,
            rows(key), rows(query)};
        if (query == key) {
          const Tile<T> decay = decays_ ? decay_.Within(key) : Tile<T>();
          AddPair<Part::kLower, Part::kUpper>(pair, decay);
          if (wants_d_decay_) d_decay_.AddWithin(key, w_);
        } else {
          Tile<T> decay;
          if (decays_) {
            decay = decay_.Between(key, query, gap);
            gap = FlushSubnormal(gap * decay_.Across(query, query + 1));
          }
          AddPair<Part::kAll, Part::kAll>(pair, decay);
          if (wants_d_decay_) d_decay_.AddBetween(key, query, w_);
        }
      }
      if (wants_d_decay_) d_decay_.EndKeys(key);
    }
    if (wants_d_decay_) {
      if (has_state_ && has_future_) {
        d_decay_.AddStateToState(decay_.AcrossChunk() * StateTimesGradient());
      }
      d_decay_.Finish(gradients_.d_log_decay + begin);
    }
    if (begin > 0) {  // the state before the chunk before this one
      const T* const next =
          state - AdditiveStateSize(key_dim_, value_dim_, a_.normaliser);
      state_ahead_.Start({{next, key_dim_, value_dim_}}, 0, key_dim_);
    }
    for (size_t query = 0; query < tiles; ++query) {
      const size_t query_begin = begin + query * kTile;
      // The last tile of queries is still loaded.
      if (tiles > 1) LoadQueries(query_begin, rows(query));
      if (decays_) {
        ScaleRows(decay_.FromChunkStart(query), rows(query), key_dim_, q_);
      }
      AddQueriesToGradient(query_begin, rows(query),
                           decays_ && query == 0 ? decay_.AcrossChunk() : T{1});
    }
  }

  // What is wanted next comes to the cache half a chunk ahead, and no sooner:
  // rows that lie a power of two apart share few of its sets.
  void FetchGradients(size_t begin, size_t rows) {
    ahead_.Start({gradients_.d_q, gradients_.d_k, gradients_.d_v, {}}, begin,
                 begin + rows);
  }

  // Of the first tile of the chunk before `end`, if there is one.
  void FetchInputs(size_t end) {
    const size_t chunk = std::min(a_.chunk, end), begin = end - chunk;
    ahead_.Start({a_.q, a_.k, a_.v, d_o_}, begin,
                 begin + std::min(chunk, kTile));
  }

  // Zero states, at the ends of most training sequences, need no products.
  void LoadState(const T* state) {
    Stage<T>({state, key_dim_, value_dim_}, s_);
    if (a_.normaliser) Stage<T>(ZOf(state), z_);
    has_state_ = LoadTransposed(s_, z_, s_transposed_);
    has_future_ = LoadTransposed(d_s_, d_z_, d_s_transposed_);
  }

  // Transposes a state with its normaliser column, unless it is all zero.
  bool LoadTransposed(Tile<T> s, Tile<T> z, Tile<T> to) {
    if (IsZero(s, key_dim_, value_dim_) &&
        (!a_.normaliser || IsZero(z, 1, key_dim_))) {
      return false;
    }
    Transpose(s, key_dim_, value_dim_, to);
    if (a_.normaliser) {
      std::copy_n(z.data, Padded<T>(key_dim_), to.row(value_dim_));
    }
    return true;
  }

  void LoadKeys(size_t begin, size_t rows) {
    Stage(a_.k.Rows(begin, rows), k_);
    if (a_.strength != nullptr) {
      ScaleRows(a_.strength + begin, rows, key_dim_, k_);
    }
    Transpose(k_, rows, key_dim_, k_transposed_);
    Stage(a_.v.Rows(begin, rows), v_);
    if (a_.normaliser) {
      for (size_t r = 0; r < rows; ++r) v_.row(r)[value_dim_] = 1;
    }
    Transpose(v_, rows, columns_, v_transposed_);
  }

  void LoadQueries(size_t begin, size_t rows) {
    Stage(a_.q.Rows(begin, rows), q_, a_.scale);
    Stage(d_o_.Rows(begin, rows), d_out_);
    if (a_.normaliser) {
      for (size_t r = 0; r < rows; ++r) {
        d_out_.row(r)[value_dim_] = d_den_ == nullptr ? 0 : d_den_[begin + r];
      }
    }
  }

  // A tile of keys with a tile of queries, which are loaded.
  struct Pair {
    size_t key, query;  // tiles of the chunk
    size_t key_begin, query_begin;
    size_t key_rows, query_rows;
  };

  // kPart is which (query, key) exist, and kTransposed which (key, query).
  template <Part kPart, Part kTransposed>
  void AddPair(const Pair& pair, Tile<T> decay) {
    WeighScores<kPart>(pair, decay);
    AddToQueries<kPart>(pair);
    if (kPart == Part::kLower) FetchInputs(next_end_);
    AddToKeys<kTransposed>(pair);
  }

  // P, M and, for the gradient by the decays, their W.
  template <Part kPart>
  HWY_NOINLINE void WeighScores(const Pair& pair, Tile<T> decay) {
    const Weigh<kPart, T> weigh{decay, pair.query_rows};
    Scores<kPart>(pair.query_rows, pair.key_rows,
                  RowsTimes(q_, k_transposed_, key_dim_),
                  StoreWeighed<kPart, T>{weigh, p_}, ahead_);
    Scores<kPart>(pair.query_rows, pair.key_rows,
                  RowsTimes(d_out_, v_transposed_, columns_),
                  StoreScoreGradient<kPart>{weigh, p_, m_, w_}, ahead_);
    if (kPart == Part::kLower && a_.skip != nullptr) AddSkip(pair.query_rows);
  }

  // Of a token with itself.
  void AddSkip(size_t rows) {
    AddToDiagonal(skip_, rows, p_);
    if (gradients_.d_skip == nullptr) return;
    for (size_t r = 0; r < rows; ++r) *gradients_.d_skip += m_.row(r)[r];
  }

  template <Part kPart>
  struct StoreScoreGradient {
    Weigh<kPart, T> weigh;
    Tile<T> p, m, w;

    template <class V>
    HWY_INLINE void operator()(size_t i, size_t j, V d_p) const {
      const hn::DFromV<V> d;
      if (w.data != nullptr) {
        const V product = hn::Mul(d_p, hn::Load(d, p.row(i) + j));
        hn::Store(weigh.Keep(i, j, product), d, w.row(i) + j);
      }
      hn::Store(weigh(i, j, d_p), d, m.row(i) + j);
    }
  };

  // Collects, lane by lane, the products of tokens' vectors with the cross
  // product's share in their gradients.
  struct CollectProducts {
    Tile<T> values;
    Tile<T> sums;  // none: not wanted

    template <class V>
    HWY_INLINE void operator()(size_t token, size_t col, V gradient) const {
      if (sums.data == nullptr) return;
      const hn::DFromV<V> d;
      const V other = col == 0 ? hn::Zero(d) : hn::Load(d, sums.row(token));
      hn::Store(
          hn::MulAdd(gradient, hn::Load(d, values.row(token) + col), other), d,
          sums.row(token));
    }
  };

  template <Part kPart>
  void AddToQueries(const Pair& pair) {
    const bool reads_state = pair.key == 0 && has_state_;
    MixAndStore<kPart>(
        pair.query_rows, key_dim_,
        {reads_state ? RowsTimes(d_out_, s_transposed_, columns_)
                     : Product<T>(),
         reads_state && decays_ ? decay_.FromChunkStart(pair.query) : nullptr,
         Collect(q_)},
        RowsTimes(m_, k_, pair.key_rows),
        {RowsOf(gradients_.d_q, pair.query_begin, pair.query_rows), true,
         a_.scale});
    if (reads_state && wants_d_decay_) {
      d_decay_.AddStateToQueries(pair.query);
    }
  }

  template <Part kPart>
  void AddToKeys(const Pair& pair) {
    const bool reads_future = pair.key == pair.query && has_future_;
    const T* factors =
        reads_future && decays_ ? decay_.ToChunkEnd(pair.key) : nullptr;
    const MatrixView<T> d_k =
        RowsOf(gradients_.d_k, pair.key_begin, pair.key_rows);
    const MatrixView<T> d_scaled(d_k_.data, pair.key_rows, key_dim_,
                                 d_k_.stride);
    const bool scales = a_.strength != nullptr;
    MixAndStore<kPart>(
        pair.key_rows, key_dim_,
        {reads_future ? RowsTimes(v_, d_s_transposed_, columns_) : Product<T>(),
         factors, Collect(k_)},
        ColumnsTimes(m_, q_, pair.query_rows),
        {scales ? d_scaled : d_k, !scales, T{1}});
    if (scales) AddScaledKeys(pair, d_k);
    if (reads_future && wants_d_decay_) d_decay_.AddKeysToState(pair.key);
    MixAndStore<kPart>(
        pair.key_rows, value_dim_,
        {reads_future ? RowsTimes(k_, d_s_, key_dim_) : Product<T>(), factors,
         CollectProducts()},
        ColumnsTimes(p_, d_out_, pair.query_rows),
        {RowsOf(gradients_.d_v, pair.key_begin, pair.key_rows), true, T{1}});
  }

  // The gradients of keys and strengths, given those of their products, d_k_.
  HWY_NOINLINE void AddScaledKeys(const Pair& pair, MatrixView<T> d_k) {
    const hn::ScalableTag<T> d;
    for (size_t r = 0; r < pair.key_rows; ++r) {
      const size_t t = pair.key_begin + r;
      const auto strength = hn::Set(d, a_.strength[t]);
      auto sum = hn::Zero(d);
      ForEachVector(d, key_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
        const auto gradient = lanes.Load(d_k_.row(r) + c);
        sum = hn::MulAdd(gradient, lanes.Load(a_.k.row(t) + c), sum);
        if (d_k.data == nullptr) return;
        T* const to = d_k.row(r) + c;
        lanes.Store(hn::MulAdd(gradient, strength, lanes.Load(to)), to);
      });
      if (gradients_.d_strength != nullptr) {
        gradients_.d_strength[t] += hn::GetLane(hn::SumOfLanes(d, sum));
      }
    }
  }

  // One instance for all three gradients: Mix is thousands of instructions.
  template <Part kPart>
  HWY_NOINLINE void MixAndStore(size_t rows, size_t cols,
                                const CrossProduct<T, CollectProducts>& cross,
                                const Product<T>& near,
                                const StoreInside<T>& store) {
    Mix<kPart>(rows, cols, cross, near, store, ahead_);
  }

  // Unwanted gradients have no rows, so that nothing is stored.
  static MatrixView<T> RowsOf(MatrixView<T> gradient, size_t begin,
                              size_t rows) {
    return gradient.data == nullptr ? MatrixView<T>()
                                    : gradient.Rows(begin, rows);
  }

  CollectProducts Collect(Tile<T> values) const {
    return {values, wants_d_decay_ ? d_decay_.Partial() : Tile<T>()};
  }

  T StateTimesGradient() const {
    const hn::ScalableTag<T> d;
    auto sum = hn::Zero(d);
    const auto add = [&](const T* x, const T* y, size_t n) HWY_ATTR {
      for (size_t c = 0; c < n; c += hn::Lanes(d)) {
        sum = hn::MulAdd(hn::Load(d, x + c), hn::Load(d, y + c), sum);
      }
    };
    for (size_t r = 0; r < key_dim_; ++r) {
      add(s_.row(r), d_s_.row(r), value_dim_);
    }
    if (a_.normaliser) add(z_.data, d_z_.data, key_dim_);
    return hn::GetLane(hn::SumOfLanes(d, sum));
  }

  // Z = decay Z + Q^T d_O with the loaded queries.
  HWY_NOINLINE void AddQueriesToGradient(size_t begin, size_t rows, T decay) {
    Mix<Part::kAll>(key_dim_, value_dim_, CrossProduct<T, Ignore>(),
                    ColumnsTimes(q_, d_out_, rows), UpdateState<T>{decay, d_s_},
                    state_ahead_);
    if (a_.normaliser) {
      AddRows(q_, d_den_ == nullptr ? 0 : rows, key_dim_,
              d_den_ == nullptr ? nullptr : d_den_ + begin, decay, d_z_.data);
    }
  }

  const AdditiveRecurrence<T>& a_;
  const size_t length_;
  const size_t key_dim_;
  const size_t value_dim_;
  const size_t columns_;  // of a state: values and the normaliser
  const T* const saved_;
  const MatrixView<const T> d_o_;
  const T* const d_den_;
  T* const d_state_;
  const AdditiveRecurrenceGradients<T>& gradients_;
  const bool decays_;
  const bool wants_d_decay_;
  const T skip_;

  // Scratch. Queries (times the scale) and keys (times the strengths) are those
  // of one tile.
  Tile<T> q_, k_, k_transposed_, v_, v_transposed_, d_out_;
  Tile<T> d_k_;  // none without strengths
  Tile<T> p_, m_, w_;
  Tile<T> s_, z_, s_transposed_;        // the state before the chunk
  Tile<T> d_s_, d_z_, d_s_transposed_;  // the gradient of the one behind it
  T* d_v_sum_ = nullptr;
  ChunkDecay<T> decay_;
  DecayGradient<T> d_decay_;
  Prefetcher<T, 2, 4> ahead_;
  Prefetcher<T, 4, 1> state_ahead_;
  size_t next_end_ = 0;  // of the chunk whose inputs are fetched next; 0: none
  bool has_state_ = false;
  bool has_future_ = false;
};

template <typename T>
void RunBackward(const AdditiveRecurrence<T>& a, const T* saved,
                 MatrixView<const T> d_o, const T* d_den, T* d_state,
                 const AdditiveRecurrenceGradients<T>& gradients) {
  Backward<T>(a, saved, d_o, d_den, d_state, gradients).Run();
}

}  // namespace recurrence

void AdditiveBackwardFloat(
    const AdditiveRecurrence<float>& a, const float* saved,
    MatrixView<const float> d_o, const float* d_den, float* d_state,
    const AdditiveRecurrenceGradients<float>& gradients) {
  recurrence::RunBackward(a, saved, d_o, d_den, d_state, gradients);
}
void AdditiveBackwardDouble(
    const AdditiveRecurrence<double>& a, const double* saved,
    MatrixView<const double> d_o, const double* d_den, double* d_state,
    const AdditiveRecurrenceGradients<double>& gradients) {
  recurrence::RunBackward(a, saved, d_o, d_den, d_state, gradients);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(AdditiveBackwardFloat);
HWY_EXPORT(AdditiveBackwardDouble);

void AdditiveRecurrenceBackward(
    const AdditiveRecurrence<float>& a, const float* saved,
    MatrixView<const float> d_o, const float* d_den, float* d_state,
    const AdditiveRecurrenceGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(AdditiveBackwardFloat)
  (a, saved, d_o, d_den, d_state, gradients);
}
void AdditiveRecurrenceBackward(
    const AdditiveRecurrence<double>& a, const double* saved,
    MatrixView<const double> d_o, const double* d_den, double* d_state,
    const AdditiveRecurrenceGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(AdditiveBackwardDouble)
  (a, saved, d_o, d_den, d_state, gradients);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
