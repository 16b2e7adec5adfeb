// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/additive_recurrence.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/additive_recurrence.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/additive_recurrence-inl.h"
#include "attention/kernels/chunk_decay-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// One token of the recurrence. from and to are the state S before and after;
// they may be the same.
template <typename T>
struct Token {
  const T* q;
  const T* k;
  const T* v;
  T scale;
  T decay;  // e^g
  Tile<const T> from;
  Tile<T> to;
  T* o;
};

// One row of the state: decay, rank-1 update and read. Not a lambda, because
// GCC inlines those too late to keep the sums in registers.
template <size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepRow(D d, const Token<T>& token, size_t row, size_t col,
                        const Access& access, hn::VFromD<D> decay,
                        const hn::VFromD<D> (&v)[kVectors],
                        hn::VFromD<D> (&sums)[kVectors]) {
  const size_t lanes = hn::Lanes(d);
  const T* from = token.from.row(row) + col;
  T* to = token.to.row(row) + col;
  const auto k = hn::Set(d, token.k[row]);
  const auto q = hn::Set(d, token.q[row]);
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    const auto state =
        hn::MulAdd(access.Load(from + i * lanes), decay, hn::Mul(k, v[i]));
    access.Store(state, to + i * lanes);
    sums[i] = hn::MulAdd(q, state, sums[i]);
  });
}

// Columns [col, col + kVectors vectors) of the state, in one pass. access is
// AllLanes or FirstLanes. kRows rows at a time are read into sums of their own,
// to have enough multiply-adds in flight.
template <size_t kRows, size_t kVectors, class D, class Access, typename T>
HWY_INLINE void StepColumns(D d, const Token<T>& token, size_t key_dim,
                            size_t col, const Access& access) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  const V decay = hn::Set(d, token.decay);
  V v[kVectors];
  V sums[kRows][kVectors];
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    v[i] = access.Load(token.v + col + i * lanes);
    Unroll<kRows>([&](auto r) HWY_ATTR { sums[r][i] = hn::Zero(d); });
  });
  size_t row = 0;
  for (; row + kRows <= key_dim; row += kRows) {
    Unroll<kRows>([&](auto r) HWY_ATTR {
      StepRow(d, token, row + r, col, access, decay, v, sums[r]);
    });
  }
  for (; row < key_dim; ++row) {
    StepRow(d, token, row, col, access, decay, v, sums[0]);
  }
  const V scale = hn::Set(d, token.scale);
  Unroll<kVectors>([&](auto i) HWY_ATTR {
    V sum = sums[0][i];
    Unroll<kRows - 1>([&](auto r)
                          HWY_ATTR { sum = hn::Add(sum, sums[r + 1][i]); });
    access.Store(hn::Mul(sum, scale), token.o + col + i * lanes);
  });
}

// All columns, in strips as wide as the registers allow: the rows of a state
// are contiguous. The token is passed by value, as vector stores might alias it
// anywhere else.
template <typename T>
HWY_NOINLINE void StepState(Token<T> token, size_t key_dim, size_t value_dim) {
  const hn::ScalableTag<T> d;
  const AllLanes<decltype(d)> all;
  const size_t lanes = hn::Lanes(d);
  size_t col = 0;
  if constexpr (kBlockRows == 8) {  // 32 registers
    for (; col + 8 * lanes <= value_dim; col += 8 * lanes) {
      StepColumns<1, 8>(d, token, key_dim, col, all);
    }
  }
  for (; col + 4 * lanes <= value_dim; col += 4 * lanes) {
    StepColumns<kBlockRows / 4, 4>(d, token, key_dim, col, all);
  }
  for (; col + 2 * lanes <= value_dim; col += 2 * lanes) {
    StepColumns<kBlockRows / 2, 2>(d, token, key_dim, col, all);
  }
  for (; col + lanes <= value_dim; col += lanes) {
    StepColumns<kBlockRows, 1>(d, token, key_dim, col, all);
  }
  if (col < value_dim) {
    const FirstLanes<decltype(d)> rest{value_dim - col};
    StepColumns<1, 1>(d, token, key_dim, col, rest);
  }
}

// The same for z; returns z . q.
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
    if (saved_ != nullptr) std::copy_n(state_, StateSize(), saved_);
    const T* from = saved_ == nullptr ? state_ : saved_;
    for (size_t t = 0; t < length_; ++t) {
      const bool saves = saved_ != nullptr && t + 1 < length_;
      T* to = saves ? saved_ + (t + 1) * StateSize() : state_;
      Step(t, {from, value_dim_}, from + z, {to, value_dim_}, to + z);
      from = to;
    }
  }

  void Step(size_t t, Tile<const T> from, const T* z_from, Tile<T> to,
            T* z_to) {
    const T decay = DecayFactor(a_.log_decay, t);
    StepState<T>({a_.q.row(t), a_.k.row(t), a_.v.row(t), a_.scale, decay, from,
                  to, o_.row(t)},
                 key_dim_, value_dim_);
    if (!a_.normaliser) return;
    const T den =
        StepNormaliser(a_.q.row(t), a_.k.row(t), decay, key_dim_, z_from, z_to);
    if (den_ != nullptr) den_[t] = a_.scale * den;
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
        Step(begin, {s_.data, s_.stride}, z_.data, s_, z_.data);
      } else {
        RunChunk(begin, length);
      }
    }
    CopyState(state_);
  }

  template <class Take>
  void LayOut(size_t chunk, const Take& take) {
    const size_t tokens = std::min(kTile, chunk);
    const auto tile = [&](size_t rows, size_t cols) {
      const size_t stride = Tile<T>::Stride(cols);
      return Tile<T>{take(Padded<T>(rows) * stride), stride};
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
      Stage(a_.k.Rows(key_begin, rows(key)), k_);
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
    Stage(a_.q.Rows(pair.query_begin, rows), q_, a_.scale);
    Scores<kPart>(rows, pair.key_rows, RowsTimes(q_, k_transposed_, key_dim_),
                  StoreWeighed<kPart, T>{{pair.decay, rows}, scores_});
    const bool reads_state = pair.first && has_state_;
    Mix<kPart>(
        rows, value_dim_,
        CrossProduct<T, Ignore>{
            reads_state ? RowsTimes(q_, s_, key_dim_) : Product<T>(),
            pair.state_factors, Ignore()},
        RowsTimes(scores_, v_, pair.key_rows),
        StoreInside<T>{o_.Rows(pair.query_begin, rows), !pair.first, T{1}});
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
    }
  }

  // S = decay S + K^T V, z = decay z + K^T 1 with the staged keys and values.
  HWY_NOINLINE void AddKeysToState(size_t rows, T decay) {
    Mix<Part::kAll>(key_dim_, value_dim_, CrossProduct<T, Ignore>(),
                    ColumnsTimes(k_, v_, rows), UpdateState<T>{decay, s_});
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

  // Scratch. q, k and v are those of one tile, q times the scale.
  Tile<T> q_, k_, k_transposed_, v_;
  Tile<T> scores_;
  Tile<T> s_, z_;  // the state
  ChunkDecay<T> decay_;
  bool has_state_ = false;
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
