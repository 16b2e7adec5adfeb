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

// Entries of TokenOf's scratch: the features of a query and a key.
template <typename T>
size_t TokenScratch(const AdditiveRecurrence<T>& a) {
  return a.elu_features ? 2 * Padded<T>(a.q.cols) : 0;
}

// A state, as tokens find it or leave it; z is not used without a normaliser.
template <typename T>
struct StateView {
  Tile<T> s;
  T* z;
};

// Token t, for StepHeads, after what comes before it: the features, z and the
// denominator, which is written to den unless that is null. Outputs will be
// divided by it if they should be.
template <typename T>
HWY_INLINE Token<T> TokenOf(const AdditiveRecurrence<T>& a, size_t t,
                            const StateView<const T>& from,
                            const StateView<T>& to, T* o, T* den, T* scratch) {
  const hn::ScalableTag<T> d;
  const size_t key_dim = a.q.cols;
  Token<T> token{a.q.row(t), a.k.row(t), a.v.row(t), a.scale, from.s, to.s, o};
  token.decay = DecayFactor(a.log_decay, t);
  if (a.strength != nullptr) token.strength = a.strength[t];
  if (a.elu_features) {
    T *const q = scratch, *const k = scratch + Padded<T>(key_dim);
    ForEachVector(d, key_dim, [&](size_t c, const auto& lanes) HWY_ATTR {
      hn::Store(EluPlusOne()(d, lanes.Load(token.q + c)), d, q + c);
      hn::Store(EluPlusOne()(d, lanes.Load(token.k + c)), d, k + c);
    });
    token.q = q;
    token.k = k;
  }
  if (!a.normaliser) return token;
  const auto decay = hn::Set(d, token.decay);
  const auto strength = hn::Set(d, token.strength);
  const T dot = SumVectors(
      d, key_dim, [&](auto sum, size_t i, const auto& lanes) HWY_ATTR {
        const auto k = hn::Mul(strength, lanes.Load(token.k + i));
        const auto z = hn::MulAdd(decay, lanes.Load(from.z + i), k);
        lanes.Store(z, to.z + i);
        return hn::MulAdd(lanes.Load(token.q + i), z, sum);
      });
  const T sum = a.scale * dot;
  if (den != nullptr) *den = sum;
  if (a.divide) token.scale *= 1 / (sum + a.eps);
  return token;
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
    LayOutScratch<T>(
        [&](const auto& take) { token_scratch_ = take(TokenScratch(a_)); });
    if (saved_ != nullptr) std::copy_n(state_, StateSize(), saved_);
    T* from = saved_ == nullptr ? state_ : saved_;
    for (size_t t = 0; t < length_; ++t) {
      const bool saves = saved_ != nullptr && t + 1 < length_;
      T* const to = saves ? saved_ + (t + 1) * StateSize() : state_;
      RunToken(t, Contiguous(from), Contiguous(to));
      from = to;
    }
  }

  StateView<T> Contiguous(T* state) const {
    return {{state, value_dim_}, state + key_dim_ * value_dim_};
  }

  void RunToken(size_t t, const StateView<T>& from, const StateView<T>& to) {
    Token<T> token =
        TokenOf<T>(a_, t, {{from.s.data, from.s.stride}, from.z}, to, o_.row(t),
                   den_ == nullptr ? nullptr : den_ + t, token_scratch_);
    if (a_.skip != nullptr) token.own = *a_.skip;
    StepHeads<Step::kScalarDecay>(&token, 1, key_dim_, value_dim_);
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
        RunToken(begin, {s_, z_.data}, {s_, z_.data});
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
    token_scratch_ = take(TokenScratch(a_));
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

  T* token_scratch_ = nullptr;  // see TokenScratch

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

template <typename T>
void RunStep(const AdditiveRecurrence<T>& a, T* states, MatrixView<T> o,
             T* den) {
  const size_t key_dim = a.q.cols, value_dim = a.v.cols;
  const size_t size = AdditiveStateSize(key_dim, value_dim, a.normaliser);
  StepAllHeads<Step::kScalarDecay, T>(
      a.v.rows, TokenScratch(a), key_dim, value_dim,
      [&](size_t h, T* scratch) HWY_ATTR {
        T *const s = states + h * size, *const z = s + key_dim * value_dim;
        Token<T> token =
            TokenOf<T>(a, h, {{s, value_dim}, z}, {{s, value_dim}, z}, o.row(h),
                       den == nullptr ? nullptr : den + h, scratch);
        if (a.skip != nullptr) token.own = a.skip[h];
        return token;
      });
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
void AdditiveStepFloat(const AdditiveRecurrence<float>& a, float* states,
                       MatrixView<float> o, float* den) {
  recurrence::RunStep(a, states, o, den);
}
void AdditiveStepDouble(const AdditiveRecurrence<double>& a, double* states,
                        MatrixView<double> o, double* den) {
  recurrence::RunStep(a, states, o, den);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(AdditiveForwardFloat);
HWY_EXPORT(AdditiveForwardDouble);
HWY_EXPORT(AdditiveStepFloat);
HWY_EXPORT(AdditiveStepDouble);

void AdditiveRecurrenceForward(const AdditiveRecurrence<float>& a, float* state,
                               MatrixView<float> o, float* den, float* saved) {
  HWY_DYNAMIC_DISPATCH(AdditiveForwardFloat)(a, state, o, den, saved);
}
void AdditiveRecurrenceForward(const AdditiveRecurrence<double>& a,
                               double* state, MatrixView<double> o, double* den,
                               double* saved) {
  HWY_DYNAMIC_DISPATCH(AdditiveForwardDouble)(a, state, o, den, saved);
}

void AdditiveRecurrenceStep(const AdditiveRecurrence<float>& a, float* states,
                            MatrixView<float> o, float* den) {
  HWY_DYNAMIC_DISPATCH(AdditiveStepFloat)(a, states, o, den);
}
void AdditiveRecurrenceStep(const AdditiveRecurrence<double>& a, double* states,
                            MatrixView<double> o, double* den) {
  HWY_DYNAMIC_DISPATCH(AdditiveStepDouble)(a, states, o, den);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
