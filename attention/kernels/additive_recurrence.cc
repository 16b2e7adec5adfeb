// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/additive_recurrence.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/additive_recurrence.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/additive_recurrence-inl.h"
#include "attention/kernels/additive_step-inl.h"
#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// The step of a token (additive_step-inl.h) for z; returns z . q.
template <typename T>
T StepNormaliser(const T* q, const T* k, T decay, size_t key_dim, const T* from,
                 T* to) {
  const hn::ScalableTag<T> d;
  const auto factor = hn::Set(d, decay);
  auto sum = hn::Zero(d);
  ForEachVector(d, key_dim, [&](size_t i, const auto& lanes) HWY_ATTR {
    const auto z = hn::MulAdd(factor, lanes.Load(from + i), lanes.Load(k + i));
    lanes.Store(z, to + i);
    sum = hn::MulAdd(lanes.Load(q + i), z, sum);
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// x = scale * (elu(x) + 1); the padding stays zero.
template <typename T>
HWY_NOINLINE void ToEluFeatures(size_t rows, size_t cols, T scale, Tile<T> x) {
  const hn::ScalableTag<T> d;
  const auto factor = hn::Set(d, scale);
  for (size_t r = 0; r < rows; ++r) {
    ForEachVector(d, cols, [&](size_t c, const auto& lanes) HWY_ATTR {
      T* const at = x.row(r) + c;
      const auto y = hn::Mul(EluPlusOne()(d, lanes.Load(at)), factor);
      hn::Store(lanes.Keep(y), d, at);
    });
  }
}

// x /= divisor.
template <typename T>
HWY_INLINE void Divide(size_t n, T divisor, T* x) {
  const hn::ScalableTag<T> d;
  const auto inverse = hn::Set(d, 1 / divisor);
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::Mul(lanes.Load(x + i), inverse), x + i);
  });
}

// y += a x.
template <typename T>
HWY_INLINE void AddScaled(size_t n, T a, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  const auto factor = hn::Set(d, a);
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::MulAdd(factor, lanes.Load(x + i), lanes.Load(y + i)),
                y + i);
  });
}

template <typename T>
class Forward {
 public:
  Forward(const AdditiveRecurrence<T>& a, T* state, MatrixView<T> o, T* den,
          T* saved)
      : a_(a),
        length_(a.q.rows),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        state_(state),
        o_(o),
        den_(a.normaliser ? den : nullptr),
        saved_(saved) {}

  void Run() {
    if (length_ == 0) return;
    if (std::min(a_.chunk, length_) == 1) {
      RunTokens();
    } else {
      RunChunks();
    }
  }

 private:
  size_t StateSize() const {
    return AdditiveStateSize(key_dim_, value_dim_, a_.normaliser);
  }

  // chunk = 1. Where the states are saved, each step writes the next of them
  // instead of updating one state that is then copied.
  void RunTokens() {
    const size_t z = key_dim_ * value_dim_;
    if (a_.elu_features || a_.strength != nullptr) {
      LayOutScratch<T>([&](const auto& take) {
        for (Tile<T>* row : {&q_, &k_}) *row = TakeTile(1, key_dim_, take);
      });
    }
    if (saved_ != nullptr) std::copy_n(state_, StateSize(), saved_);
    const T* from = saved_ == nullptr ? state_ : saved_;
    for (size_t t = 0; t < length_; ++t) {
      const bool saves = saved_ != nullptr && t + 1 < length_;
      T* to = saves ? saved_ + (t + 1) * StateSize() : state_;
      RunToken(t, {from, value_dim_}, from + z, {to, value_dim_}, to + z);
      from = to;
    }
  }

  void RunToken(size_t t, Tile<const T> from, const T* z_from, Tile<T> to,
                T* z_to) {
    const T decay = DecayFactor(a_.log_decay, t);
    const T *q = a_.q.row(t), *k = a_.k.row(t);
    if (a_.elu_features) {
      StageFeatures(a_.q.Rows(t, 1), q_, T{1});
      q = q_.data;
    }
    if (a_.elu_features || a_.strength != nullptr) {
      StageKeys(t, 1);
      k = k_.data;
    }
    StepState<Step::kScalarDecay, T>(
        {q, k, a_.v.row(t), a_.scale, from, to, o_.row(t), decay}, key_dim_,
        value_dim_);
    if (a_.skip != nullptr) {
      AddScaled(value_dim_, *a_.skip, a_.v.row(t), o_.row(t));
    }
    if (!a_.normaliser) return;
    const T den =
        a_.scale * StepNormaliser(q, k, decay, key_dim_, z_from, z_to);
    if (den_ == nullptr) return;
    den_[t] = den;
    if (a_.divide) Divide(value_dim_, den + a_.eps, o_.row(t));
  }

  // Queries (times the scale) or keys, or their features.
  void StageFeatures(MatrixView<const T> from, Tile<T> to, T scale) const {
    if (a_.elu_features) {
      Stage(from, to);
      ToEluFeatures(from.rows, from.cols, scale, to);
    } else {
      Stage(from, to, scale);
    }
  }

  void StageKeys(size_t begin, size_t rows) const {
    StageFeatures(a_.k.Rows(begin, rows), k_, T{1});
    if (a_.strength != nullptr) {
      ScaleRows(a_.strength + begin, rows, key_dim_, k_);
    }
  }

  void RunChunks() {
    const size_t chunk = std::min(a_.chunk, length_);
    LayOutScratch<T>([&](const auto& take) { LayOut(chunk, take); });
    Stage<T>({state_, key_dim_, value_dim_}, s_);
    if (a_.normaliser) {
      Stage<T>({state_ + key_dim_ * value_dim_, 1, key_dim_}, z_);
    }
    T* saved = saved_;
    for (size_t begin = 0; begin < length_; begin += chunk) {
      if (saved != nullptr) {
        CopyState(saved);
        saved += StateSize();
      }
      const size_t length = std::min(chunk, length_ - begin);
      if (length == 1) {
        RunToken(begin, {s_.data, s_.stride}, z_.data, s_, z_.data);
      } else {
        RunChunk(begin, length);
      }
    }
    CopyState(state_);
  }

  template <class Take>
  static Tile<T> TakeTile(size_t rows, size_t cols, const Take& take) {
    const size_t stride = Tile<T>::Stride(cols);
    return {take(Padded<T>(rows) * stride), stride};
  }

  template <class Take>
  void LayOut(size_t chunk, const Take& take) {
    const size_t tokens = std::min(kTile, chunk);
    const auto tile = [&](size_t rows, size_t cols) {
      return TakeTile(rows, cols, take);
    };
    q_ = tile(tokens, key_dim_);
    k_ = tile(tokens, key_dim_);
    k_transposed_ = tile(key_dim_, tokens);
    v_ = tile(tokens, value_dim_);
    scores_ = tile(tokens, tokens);
    s_ = tile(key_dim_, value_dim_);
    z_ = tile(1, key_dim_);
    if (a_.log_decay != nullptr) decay_.LayOut(chunk, take);
  }

  void CopyState(T* to) const {
    Unstage(s_, {to, key_dim_, value_dim_});
    if (a_.normaliser) {
      Unstage(z_, {to + key_dim_ * value_dim_, 1, key_dim_});
    }
  }

  void RunChunk(size_t begin, size_t length) {
    const bool decays = a_.log_decay != nullptr;
    if (decays) decay_.Start(a_.log_decay + begin, length);
    const size_t tiles = (length + kTile - 1) / kTile;
    const auto rows = [&](size_t tile) {
      return std::min(kTile, length - tile * kTile);
    };
    // A fresh sequence need not read its state.
    has_state_ = !(IsZero(s_, key_dim_, value_dim_) &&
                   (!a_.normaliser || IsZero(z_, 1, key_dim_)));
    for (size_t key = 0; key < tiles; ++key) {
      const size_t key_begin = begin + key * kTile;
      if (key + 1 == tiles) FetchAhead(begin + length);
      StageKeys(key_begin, rows(key));
      Transpose(k_, rows(key), key_dim_, k_transposed_);
      Stage(a_.v.Rows(key_begin, rows(key)), v_);
      T gap = 1;
      for (size_t query = key; query < tiles; ++query) {
        Pair pair{begin + query * kTile, rows(query), rows(key), key == 0};
        if (decays && key == 0) {
          pair.state_factors = decay_.FromChunkStart(query);
        }
        if (query == key) {
          if (decays) pair.decay = decay_.Within(key);
          Attend<Part::kLower>(pair);
        } else {
          if (decays) {
            pair.decay = decay_.Between(key, query, gap);
            gap = FlushSubnormal(gap * decay_.Across(query, query + 1));
          }
          Attend<Part::kAll>(pair);
        }
      }
      if (decays) {
        ScaleRows(decay_.ToChunkEnd(key), rows(key), key_dim_, k_);
      }
      AddKeysToState(rows(key),
                     key == 0 && decays ? decay_.AcrossChunk() : T{1});
    }
  }

  // The tile that begins there is wanted next.
  void FetchAhead(size_t begin) {
    ahead_.Start({a_.k, a_.v, a_.q, o_}, begin,
                 std::min(length_, begin + std::min(a_.chunk, kTile)));
  }

  // A tile of queries with a tile of keys (which is staged).
  struct Pair {
    size_t query_begin;
    size_t query_rows;
    size_t key_rows;
    bool first;                        // of these queries: read the state, too,
    const T* state_factors = nullptr;  // decayed by these factors unless null
    Tile<T> decay = {};                // none: no decay
  };

  template <Part kPart>
  HWY_NOINLINE void Attend(const Pair& pair) {
    const hn::ScalableTag<T> d;
    const size_t rows = pair.query_rows;
    StageFeatures(a_.q.Rows(pair.query_begin, rows), q_, a_.scale);
    Scores<kPart>(rows, pair.key_rows, RowsTimes(q_, k_transposed_, key_dim_),
                  StoreWeighed<kPart, T>{{pair.decay, rows}, scores_}, ahead_);
    if (kPart == Part::kLower && a_.skip != nullptr) {
      AddToDiagonal(*a_.skip, rows, scores_);
    }
    const bool reads_state = pair.first && has_state_;
    Mix<kPart>(
        rows, value_dim_,
        CrossProduct<T, Ignore>{
            reads_state ? RowsTimes(q_, s_, key_dim_) : Product<T>(),
            pair.state_factors, Ignore()},
        RowsTimes(scores_, v_, pair.key_rows),
        StoreInside<T>{o_.Rows(pair.query_begin, rows), !pair.first, T{1}},
        ahead_);
    if (den_ == nullptr) return;
    for (size_t i = 0; i < rows; ++i) {
      auto sum = hn::Zero(d);
      if (reads_state) {
        for (size_t c = 0; c < key_dim_; c += hn::Lanes(d)) {
          sum = hn::MulAdd(hn::Load(d, q_.row(i) + c), hn::Load(d, z_.data + c),
                           sum);
        }
        if (pair.state_factors != nullptr) {
          sum = hn::Mul(sum, hn::Set(d, pair.state_factors[i]));
        }
      }
      const size_t end = kPart == Part::kLower ? i + 1 : pair.key_rows;
      for (size_t j = 0; j < end; j += hn::Lanes(d)) {
        sum = hn::Add(sum, hn::Load(d, scores_.row(i) + j));
      }
      const T total = hn::GetLane(hn::SumOfLanes(d, sum));
      T& den = den_[pair.query_begin + i];
      den = pair.first ? total : den + total;
      // The last keys of a query are those of its own tile.
      if (kPart == Part::kLower && a_.divide) {
        Divide(value_dim_, den + a_.eps, o_.row(pair.query_begin + i));
      }
    }
  }

  // S = decay S + K^T V, z = decay z + K^T 1 with the staged keys and values.
  HWY_NOINLINE void AddKeysToState(size_t rows, T decay) {
    Mix<Part::kAll>(key_dim_, value_dim_, CrossProduct<T, Ignore>(),
                    ColumnsTimes(k_, v_, rows), UpdateState<T>{decay, s_},
                    ahead_);
    if (a_.normaliser) {
      AddRows<T>(k_, rows, key_dim_, nullptr, decay, z_.data);
    }
  }

  const AdditiveRecurrence<T>& a_;
  const size_t length_;
  const size_t key_dim_;
  const size_t value_dim_;
  T* const state_;
  const MatrixView<T> o_;
  T* const den_;
  T* const saved_;

  // Scratch. q, k and v are those of one tile, q times the scale and k times
  // the strengths.
  Tile<T> q_, k_, k_transposed_, v_;
  Tile<T> scores_;
  Tile<T> s_, z_;  // the state
  ChunkDecay<T> decay_;
  bool has_state_ = false;
  Prefetcher<T, 2, 4> ahead_;
};

template <typename T>
void RunForward(const AdditiveRecurrence<T>& a, T* state, MatrixView<T> o,
                T* den, T* saved) {
  Forward<T>(a, state, o, den, saved).Run();
}

}  // namespace recurrence

void AdditiveForwardFloat(const AdditiveRecurrence<float>& a, float* state,
                          MatrixView<float> o, float* den, float* saved) {
  recurrence::RunForward(a, state, o, den, saved);
}
void AdditiveForwardDouble(const AdditiveRecurrence<double>& a, double* state,
                           MatrixView<double> o, double* den, double* saved) {
  recurrence::RunForward(a, state, o, den, saved);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(AdditiveForwardFloat);
HWY_EXPORT(AdditiveForwardDouble);

void AdditiveRecurrenceForward(const AdditiveRecurrence<float>& a, float* state,
                               MatrixView<float> o, float* den, float* saved) {
  HWY_DYNAMIC_DISPATCH(AdditiveForwardFloat)(a, state, o, den, saved);
}
void AdditiveRecurrenceForward(const AdditiveRecurrence<double>& a,
                               double* state, MatrixView<double> o, double* den,
                               double* saved) {
  HWY_DYNAMIC_DISPATCH(AdditiveForwardDouble)(a, state, o, den, saved);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
