// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/vector_decay_recurrence.h"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/vector_decay_recurrence.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/additive_recurrence-inl.h"
#include "attention/kernels/additive_step-inl.h"
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/vector_decay_block-inl.h"
#include "attention/kernels/vector_decay_pairs-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace recurrence {
namespace hn = hwy::HWY_NAMESPACE;

// Token t with a bonus, or none, for StepHeads. Its decays take room for them
// from scratch.
template <typename T>
HWY_INLINE Token<T> VectorTokenOf(const VectorDecayRecurrence<T>& a, size_t t,
                                  const T* bonus, const T* from, T* to, T* o,
                                  T* scratch) {
  const hn::ScalableTag<T> d;
  const size_t key_dim = a.q.cols, value_dim = a.v.cols;
  const T *q = a.q.row(t), *k = a.k.row(t), *g = a.log_decay.row(t);
  Token<T> token{q, k, a.v.row(t), a.scale, {from, value_dim}, {to, value_dim},
                 o};
  ForEachVector(d, key_dim, [&](size_t c, const auto& lanes) HWY_ATTR {
    hn::Store(FastExpNonPositive(d, lanes.Load(g + c)), d, scratch + c);
  });
  token.decays = scratch;
  if (bonus != nullptr) {
    token.own = a.scale *
                SumVectors(d, key_dim,
                           [&](auto sum, size_t c, const auto& lanes) HWY_ATTR {
                             const auto own = hn::Mul(lanes.Load(bonus + c),
                                                      lanes.Load(k + c));
                             return hn::MulAdd(lanes.Load(q + c), own, sum);
                           });
  }
  return token;
}

// prepare(i, scratch) makes the token of head i.
template <typename T, class Prepare>
HWY_INLINE void StepVectorHeads(const VectorDecayRecurrence<T>& a, size_t heads,
                                const Prepare& prepare) {
  const size_t key_dim = a.q.cols, value_dim = a.v.cols;
  if (a.bonus == nullptr) {
    StepAllHeads<Step::kVectorDecay, T>(heads, Padded<T>(key_dim), key_dim,
                                        value_dim, prepare);
  } else {
    StepAllHeads<Step::kReadsFirst, T>(heads, Padded<T>(key_dim), key_dim,
                                       value_dim, prepare);
  }
}

template <typename T>
void RunVectorStep(const VectorDecayRecurrence<T>& a, T* states,
                   MatrixView<T> o) {
  const size_t key_dim = a.q.cols, size = key_dim * a.v.cols;
  StepVectorHeads(a, a.v.rows, [&](size_t h, T* scratch) HWY_ATTR {
    const T* bonus = a.bonus == nullptr ? nullptr : a.bonus + h * key_dim;
    return VectorTokenOf<T>(a, h, bonus, states + h * size, states + h * size,
                            o.row(h), scratch);
  });
}

// chunk = 1. Where the states are saved, each step writes the next of them.
template <typename T>
void RunVectorTokens(const VectorDecayRecurrence<T>& a, T* state,
                     MatrixView<T> o, T* saved) {
  const size_t length = a.q.rows, size = a.q.cols * a.v.cols;
  if (saved != nullptr) std::copy_n(state, size, saved);
  const T* from = saved == nullptr ? state : saved;
  for (size_t t = 0; t < length; ++t) {
    const bool saves = saved != nullptr && t + 1 < length;
    T* to = saves ? saved + (t + 1) * size : state;
    StepVectorHeads(a, 1, [&](size_t, T* scratch) HWY_ATTR {
      return VectorTokenOf<T>(a, t, a.bonus, from, to, o.row(t), scratch);
    });
    from = to;
  }
}

template <typename T>
void RunVectorForward(const VectorDecayRecurrence<T>& a, T* state,
                      MatrixView<T> o, T* saved) {
  const size_t length = a.q.rows, key_dim = a.q.cols, value_dim = a.v.cols;
  if (length > 0 && std::min(a.chunk, length) == 1) {
    return RunVectorTokens(a, state, o, saved);
  }
  DecayBlock<T> block(a);
  Prefetcher<T, 1, 5> ahead;
  Tile<T> s;
  LayOutScratch<T>([&](const auto& take) {
    block.LayOut(take);
    s = DecayBlock<T>::TakeTile(key_dim, value_dim, take);
  });
  block.Start();
  Stage<T>({state, key_dim, value_dim}, s);
  const size_t step = std::min(a.chunk, length);
  for (size_t chunk = 0; chunk < length; chunk += step) {
    if (saved != nullptr) {
      Unstage(s, {saved, key_dim, value_dim});
      saved += key_dim * value_dim;
    }
    const size_t end = std::min(length, chunk + step);
    for (size_t begin = chunk; begin < end; begin += kBlockTokens) {
      const size_t rows = std::min(kBlockTokens, end - begin);
      ahead.Start({a.k, a.v, a.log_decay, a.q, o}, begin + rows,
                  std::min(length, begin + rows + kBlockTokens));
      block.template Load<false>(begin, rows, a.scale);
      Mix<Part::kLower>(
          rows, value_dim,
          CrossProduct<T, Ignore>{RowsTimes(block.q_from_start, s, key_dim),
                                  nullptr, Ignore()},
          RowsTimes(block.scores, block.v, rows),
          StoreInside<T>{o.Rows(begin, rows), false, T{1}}, ahead);
      block.AddKeysTo(s, rows, ahead);
    }
  }
  Unstage(s, {state, key_dim, value_dim});
}

// to = from diag(decay) + sum.
template <typename T>
struct UpdateColumns {
  const T* decay;
  Tile<T> from, to;

  template <class V>
  HWY_INLINE void operator()(size_t row, size_t col, V sum) const {
    const hn::DFromV<V> d;
    const V old = hn::Load(d, from.row(row) + col);
    hn::Store(hn::MulAdd(hn::Load(d, decay + col), old, sum), d,
              to.row(row) + col);
  }
};

template <typename T>
struct StoreTile {
  Tile<T> to;

  template <class V>
  HWY_INLINE void operator()(size_t row, size_t col, V sum) const {
    hn::Store(sum, hn::DFromV<V>(), to.row(row) + col);
  }
};

// With the block's scores A_ij, d_A_ij = d_o_i . v_j, its first state S and the
// gradient Z of the state behind it,
//
//   d_q_i = D_i S d_o_i + sum_{j <= i} d_A_ij (decay from j to i) k_j
//   d_k_j = D_j Z v_j   + sum_{i >= j} d_A_ij (decay from j to i) q_i
//   d_v_j = Z^T D_j k_j + sum_{i >= j} A_ij d_o_i
//   Z'    = D Z + sum_i D_i q_i d_o_i^T
//
// and d_g_t sums all products that a decay at t takes part in: those from
// before t (S or a key) to after t (a query or Z). Nothing is subtracted, so
// strong decays have exact gradients. The scale is multiplied into d_o.
template <typename T>
class VectorBackward {
 public:
  VectorBackward(const VectorDecayRecurrence<T>& a, MatrixView<const T> d_o,
                 const VectorDecayGradients<T>& gradients)
      : a_(a),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        d_o_(d_o),
        gradients_(gradients),
        block_(a) {}

  void Run(const T* saved, T* d_state) {
    const size_t length = a_.q.rows;
    if (length == 0) return;
    const size_t chunk = std::min(a_.chunk, length);
    LayOutScratch<T>([&](const auto& take) { LayOut(chunk, take); });
    block_.Start();
    Stage<T>({d_state, key_dim_, value_dim_}, d_s_);
    for (size_t c = (length + chunk - 1) / chunk; c-- > 0;) {
      RunChunk(c * chunk, std::min(length, (c + 1) * chunk),
               saved + c * key_dim_ * value_dim_);
    }
    Unstage(d_s_, {d_state, key_dim_, value_dim_});
  }

 private:
  template <class Take>
  void LayOut(size_t chunk, const Take& take) {
    const auto tile = [&](size_t rows, size_t cols) {
      return DecayBlock<T>::TakeTile(rows, cols, take);
    };
    block_.LayOut(take);
    const size_t blocks = (chunk + kBlockTokens - 1) / kBlockTokens;
    state_size_ = Padded<T>(value_dim_) * Tile<T>::Stride(key_dim_);
    states_ = {take(blocks * state_size_), Tile<T>::Stride(key_dim_)};
    s_ = tile(key_dim_, value_dim_);
    d_s_ = tile(key_dim_, value_dim_);
    d_s_transposed_ = tile(value_dim_, key_dim_);
    v_transposed_ = tile(value_dim_, kBlockTokens);
    d_out_ = tile(kBlockTokens, value_dim_);
    d_scores_ = tile(kBlockTokens, kBlockTokens);
    d_q_ = tile(kBlockTokens, key_dim_);
    d_k_ = tile(kBlockTokens, key_dim_);
    d_g_ = tile(kBlockTokens, key_dim_);
    d_bonus_ = tile(1, key_dim_);
  }

  Tile<T> State(size_t block) const {
    return {states_.data + block * state_size_, states_.stride};
  }

  void RunChunk(size_t begin, size_t end, const T* state) {
    Stage<T>({state, key_dim_, value_dim_}, s_);
    Transpose(s_, key_dim_, value_dim_, State(0));
    const size_t blocks = (end - begin + kBlockTokens - 1) / kBlockTokens;
    for (size_t b = 0; b + 1 < blocks; ++b) {
      block_.LoadKeys(begin + b * kBlockTokens, kBlockTokens);
      AddKeys(State(b), State(b + 1));
    }
    for (size_t b = blocks; b-- > 0;) {
      const size_t first = begin + b * kBlockTokens;
      const size_t rows = std::min(kBlockTokens, end - first);
      // A block of this chunk's gradients, then one of the chunk's before it.
      gradients_ahead_.Start({gradients_.d_v, gradients_.d_q, gradients_.d_k,
                              gradients_.d_log_decay},
                             first, first + rows);
      const size_t chunk = std::min(a_.chunk, begin);
      inputs_ahead_.Start({a_.k, a_.log_decay, a_.v, a_.q, d_o_}, first - chunk,
                          first - chunk + (chunk == 0 ? 0 : rows));
      RunBlock(first, rows, State(b));
    }
  }

  HWY_NOINLINE void AddKeys(Tile<T> from, Tile<T> to) {
    Mix<Part::kAll>(value_dim_, key_dim_, CrossProduct<T, Ignore>(),
                    ColumnsTimes(block_.v, block_.k_to_end, kBlockTokens),
                    UpdateColumns<T>{block_.total, from, to});
  }

  void RunBlock(size_t begin, size_t rows, Tile<T> s_transposed) {
    block_.template Load<true>(begin, rows, T{1});
    Stage(d_o_.Rows(begin, rows), d_out_, a_.scale);
    Transpose(block_.v, rows, value_dim_, v_transposed_);
    s_transposed_ = s_transposed;
    Transpose(d_s_, key_dim_, value_dim_, d_s_transposed_);
    AddProducts(begin, rows);
    if (block_.reads_first()) {
      AddPairs<true>(rows);
    } else {
      AddPairs<false>(rows);
    }
    AddTo(gradients_.d_q, begin, rows, d_q_);
    AddTo(gradients_.d_k, begin, rows, d_k_);
    AddTo(gradients_.d_log_decay, begin, rows, d_g_);
    if (gradients_.d_bonus != nullptr) {
      AddTo({gradients_.d_bonus, 1, key_dim_}, 0, 1, d_bonus_);
    }
  }

  // All that is a matrix product: d_A, the state's share in d_q (of
  // q_from_start, for now) and the future's in d_k (of k_to_end), d_v, and Z'.
  HWY_NOINLINE void AddProducts(size_t begin, size_t rows) {
    Scores<Part::kLower>(
        rows, rows, RowsTimes(d_out_, v_transposed_, value_dim_),
        StoreWeighed<Part::kLower, T>{{Tile<T>(), rows}, d_scores_},
        gradients_ahead_);
    ToTile(rows, RowsTimes(d_out_, s_transposed_, value_dim_), d_q_);
    ToTile(rows, RowsTimes(block_.v, d_s_transposed_, value_dim_), d_k_);
    if (gradients_.d_v.data != nullptr) {
      Mix<Part::kUpper>(
          rows, value_dim_,
          CrossProduct<T, Ignore>{RowsTimes(block_.k_to_end, d_s_, key_dim_),
                                  nullptr, Ignore()},
          ColumnsTimes(block_.scores, d_out_, rows),
          StoreInside<T>{gradients_.d_v.Rows(begin, rows), true, T{1}});
    }
    Mix<Part::kAll>(key_dim_, value_dim_, CrossProduct<T, Ignore>(),
                    ColumnsTimes(block_.q_from_start, d_out_, rows),
                    UpdateRows<T>{block_.total, d_s_}, inputs_ahead_);
  }

  HWY_NOINLINE void ToTile(size_t rows, const Product<T>& product,
                           Tile<T> to) const {
    Mix<Part::kAll>(rows, key_dim_, CrossProduct<T, Ignore>(), product,
                    StoreTile<T>{to}, gradients_ahead_);
  }

  // The rest goes by key dimensions, which are lanes.
  template <bool kReadsFirst>
  HWY_NOINLINE void AddPairs(size_t rows) {
    const hn::ScalableTag<T> d;
    PairGradients<kReadsFirst, T> pairs(block_, rows, d_scores_, d_q_, d_k_,
                                        d_g_, d_bonus_);
    for (size_t c = 0; c < key_dim_; c += hn::Lanes(d)) {
      AddStates<kReadsFirst>(d, rows, c);
      pairs.AddColumns(c);
    }
  }

  // Of a vector of rows of S and Z.
  template <class D>
  HWY_INLINE hn::VFromD<D> StateTimesGradient(D d, size_t c) const {
    constexpr size_t kSums = 4;
    hn::VFromD<D> sums[kSums];
    const auto add = [&](auto n, size_t i) HWY_ATTR
        __attribute__((always_inline)) {
      sums[n] = hn::MulAdd(hn::Load(d, s_transposed_.row(i) + c),
                           hn::Load(d, d_s_transposed_.row(i) + c), sums[n]);
    };
    Unroll<kSums>([&](auto n) HWY_ATTR
                  __attribute__((always_inline)) { sums[n] = hn::Zero(d); });
    size_t i = 0;
    for (; i + kSums <= value_dim_; i += kSums) {
      Unroll<kSums>([&](auto n) HWY_ATTR
                    __attribute__((always_inline)) { add(n, i + n); });
    }
    for (; i < value_dim_; ++i) add(std::integral_constant<size_t, 0>(), i);
    return hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  }

  // d_g of the paths from S or to Z; d_q and d_k become those of q and k.
  template <bool kReadsFirst, class D>
  HWY_INLINE void AddStates(D d, size_t rows, size_t c) {
    const auto at = [&](Tile<T> tile, size_t t)
                        HWY_ATTR { return hn::Load(d, tile.row(t) + c); };
    // From S through the whole block, and from keys before t to Z.
    auto sum = StateTimesGradient(d, c);
    sum = hn::Mul(sum, hn::Load(d, block_.total + c));
    for (size_t t = 0; t < rows; ++t) {
      hn::Store(sum, d, d_g_.row(t) + c);
      sum = hn::MulAdd(at(block_.k_to_end, t), at(d_k_, t), sum);
    }
    // From S to the queries that read it after decay t.
    sum = hn::Zero(d);
    auto product = hn::Set(d, T{1});
    for (size_t t = rows; t-- > 0;) {
      const auto own = hn::Mul(at(block_.q_from_start, t), at(d_q_, t));
      const auto from_here = hn::Add(sum, own);
      hn::Store(hn::Add(at(d_g_, t), kReadsFirst ? sum : from_here), d,
                d_g_.row(t) + c);
      sum = from_here;
      hn::Store(hn::Mul(at(d_k_, t), product), d, d_k_.row(t) + c);
      product = hn::Mul(product, at(block_.decay, t));
    }
    product = hn::Set(d, T{1});
    for (size_t t = 0; t < rows; ++t) {
      const auto next = hn::Mul(product, at(block_.decay, t));
      hn::Store(hn::Mul(at(d_q_, t), kReadsFirst ? product : next), d,
                d_q_.row(t) + c);
      product = next;
    }
  }

  static void AddTo(MatrixView<T> gradient, size_t begin, size_t rows,
                    Tile<T> tile) {
    if (gradient.data == nullptr) return;
    const hn::ScalableTag<T> d;
    for (size_t r = 0; r < rows; ++r) {
      T* const to = gradient.row(begin + r);
      ForEachVector(
          d, gradient.cols, [&](size_t c, const auto& lanes) HWY_ATTR {
            lanes.Store(
                hn::Add(lanes.Load(to + c), hn::Load(d, tile.row(r) + c)),
                to + c);
          });
    }
  }

  const VectorDecayRecurrence<T>& a_;
  const size_t key_dim_, value_dim_;
  const MatrixView<const T> d_o_;
  const VectorDecayGradients<T>& gradients_;
  DecayBlock<T> block_;
  size_t state_size_ = 0;
  Tile<T> states_;  // before each block of the chunk, transposed
  Tile<T> s_, d_s_, s_transposed_, d_s_transposed_, v_transposed_;
  Tile<T> d_out_, d_scores_;  // d_scores_[i][j] = d_A_ij
  Tile<T> d_q_, d_k_, d_g_, d_bonus_;
  Prefetcher<T, 2, 4> gradients_ahead_;
  Prefetcher<T, 1, 5> inputs_ahead_;
};

}  // namespace recurrence

void VectorForwardFloat(const VectorDecayRecurrence<float>& a, float* state,
                        MatrixView<float> o, float* saved) {
  recurrence::RunVectorForward(a, state, o, saved);
}
void VectorForwardDouble(const VectorDecayRecurrence<double>& a, double* state,
                         MatrixView<double> o, double* saved) {
  recurrence::RunVectorForward(a, state, o, saved);
}
void VectorStepFloat(const VectorDecayRecurrence<float>& a, float* states,
                     MatrixView<float> o) {
  recurrence::RunVectorStep(a, states, o);
}
void VectorStepDouble(const VectorDecayRecurrence<double>& a, double* states,
                      MatrixView<double> o) {
  recurrence::RunVectorStep(a, states, o);
}
void VectorBackwardFloat(const VectorDecayRecurrence<float>& a,
                         const float* saved, MatrixView<const float> d_o,
                         float* d_state,
                         const VectorDecayGradients<float>& gradients) {
  recurrence::VectorBackward<float>(a, d_o, gradients).Run(saved, d_state);
}
void VectorBackwardDouble(const VectorDecayRecurrence<double>& a,
                          const double* saved, MatrixView<const double> d_o,
                          double* d_state,
                          const VectorDecayGradients<double>& gradients) {
  recurrence::VectorBackward<double>(a, d_o, gradients).Run(saved, d_state);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(VectorForwardFloat);
HWY_EXPORT(VectorForwardDouble);
HWY_EXPORT(VectorStepFloat);
HWY_EXPORT(VectorStepDouble);
HWY_EXPORT(VectorBackwardFloat);
HWY_EXPORT(VectorBackwardDouble);

void VectorDecayForward(const VectorDecayRecurrence<float>& a, float* state,
                        MatrixView<float> o, float* saved) {
  HWY_DYNAMIC_DISPATCH(VectorForwardFloat)(a, state, o, saved);
}
void VectorDecayForward(const VectorDecayRecurrence<double>& a, double* state,
                        MatrixView<double> o, double* saved) {
  HWY_DYNAMIC_DISPATCH(VectorForwardDouble)(a, state, o, saved);
}
void VectorDecayStep(const VectorDecayRecurrence<float>& a, float* states,
                     MatrixView<float> o) {
  HWY_DYNAMIC_DISPATCH(VectorStepFloat)(a, states, o);
}
void VectorDecayStep(const VectorDecayRecurrence<double>& a, double* states,
                     MatrixView<double> o) {
  HWY_DYNAMIC_DISPATCH(VectorStepDouble)(a, states, o);
}
void VectorDecayBackward(const VectorDecayRecurrence<float>& a,
                         const float* saved, MatrixView<const float> d_o,
                         float* d_state,
                         const VectorDecayGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(VectorBackwardFloat)(a, saved, d_o, d_state, gradients);
}
void VectorDecayBackward(const VectorDecayRecurrence<double>& a,
                         const double* saved, MatrixView<const double> d_o,
                         double* d_state,
                         const VectorDecayGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(VectorBackwardDouble)(a, saved, d_o, d_state, gradients);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
