// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/vector_decay_operator.h"

#include <algorithm>
#include <cmath>

#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_decay_recurrence.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/one_token.h"

namespace mneme {
namespace {

enum Input { kQuery, kKey, kValue, kDecay, kBonus };

// The kernel's view of one (batch, head).
template <typename T>
kernels::VectorDecayRecurrence<T> OneHead(const OperatorCall& call,
                                          double scale, int64_t chunk,
                                          int64_t b, int64_t h) {
  kernels::VectorDecayRecurrence<T> head;
  head.q = call.inputs[kQuery].Sequence<T>(b, h);
  head.k = call.inputs[kKey].Sequence<T>(b, h);
  head.v = call.inputs[kValue].Sequence<T>(b, h);
  head.log_decay = call.inputs[kDecay].Sequence<T>(b, h);
  if (call.inputs.size() > kBonus) {
    head.bonus = call.inputs[kBonus].data<T>() + h * call.dims.key_dim;
  }
  head.scale = static_cast<T>(scale);
  head.chunk = static_cast<size_t>(chunk);
  return head;
}

// One token of all heads.
template <typename T>
void Step(const OperatorCall& call, double scale) {
  const int64_t heads = call.dims.heads;
  T* const states =
      static_cast<DenseState*>(call.state)->tensor().template data<T>();
  kernels::VectorDecayRecurrence<T> all;
  all.q = RowsOfHeads<T>(call.inputs[kQuery]);
  all.k = RowsOfHeads<T>(call.inputs[kKey]);
  all.v = RowsOfHeads<T>(call.inputs[kValue]);
  all.log_decay = RowsOfHeads<T>(call.inputs[kDecay]);
  all.scale = static_cast<T>(scale);
  const kernels::MatrixView<T> o = RowsOfHeads<T>(call.output);
  ForHeadRanges(
      call.pool, call.dims.batch, heads,
      [&](int64_t b, int64_t h, int64_t count) {
        const int64_t first = b * heads + h;
        kernels::VectorDecayRecurrence<T> some = all;
        for (auto* rows : {&some.q, &some.k, &some.v, &some.log_decay}) {
          *rows = rows->Rows(first, count);
        }
        if (call.inputs.size() > kBonus) {
          some.bonus = call.inputs[kBonus].data<T>() + h * all.q.cols;
        }
        kernels::VectorDecayStep(some, states + first * all.q.cols * all.v.cols,
                                 o.Rows(first, count));
      });
}

int64_t SavedSize(const Dims& d, int64_t chunk) {
  return kernels::VectorDecaySavedSize(d.length, chunk, d.key_dim, d.value_dim);
}

}  // namespace

std::vector<InputSpec> VectorDecayOperator::Inputs() const {
  std::vector<InputSpec> inputs = {
      {"q", "BLHK", "queries [batch, length, heads, key_dim]"},
      {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
      {"v", "BLHV", "values [batch, length, heads, value_dim]"},
      {"g", "BLHK", "log decays [batch, length, heads, key_dim]",
       Domain::kNonPositive}};
  if (rule_.bonus) {
    inputs.push_back(
        {"u", "HK", "weight of the current token [heads, key_dim]"});
  }
  return inputs;
}

double VectorDecayOperator::Scale(const Dims& dims) const {
  return rule_.scaled ? 1 / std::sqrt(static_cast<double>(dims.key_dim)) : 1;
}

absl::Status VectorDecayOperator::Forward(OperatorCall* call) const {
  const Dims& d = call->dims;
  if (TakesOneToken(*call)) {
    DispatchDType(call->output.dtype(),
                  [&](auto zero) { Step<decltype(zero)>(*call, Scale(d)); });
    return absl::OkStatus();
  }
  const int64_t chunk = ChunkOf(call->form, d.length, chunk_);
  const int64_t state_size = d.key_dim * d.value_dim;
  Tensor saved;
  if (call->keep) {
    saved = Tensor(call->arena, call->output.dtype(),
                   {d.batch * d.heads, SavedSize(d, chunk)});
    call->saved = {saved};
  }
  DispatchDType(call->output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::ParallelFor(call->pool, d.batch * d.heads, [&](size_t i, int) {
      const int64_t b = i / d.heads, h = i % d.heads;
      std::vector<T> fresh(call->state == nullptr ? state_size : 0);
      T* state = call->state == nullptr ? fresh.data()
                                        : static_cast<DenseState*>(call->state)
                                                  ->tensor()
                                                  .template data<T>() +
                                              i * state_size;
      kernels::VectorDecayForward(
          OneHead<T>(*call, Scale(d), chunk, b, h), state,
          call->output.Sequence<T>(b, h),
          call->keep ? saved.data<T>() + i * saved.dim(1) : nullptr);
    });
  });
  return absl::OkStatus();
}

absl::Status VectorDecayOperator::Backward(
    const OperatorCall& call, const Tensor& d_output,
    absl::Span<const Tensor> d_inputs) const {
  const Dims& d = call.dims;
  const int64_t chunk = ChunkOf(call.form, d.length, chunk_);
  const Tensor& saved = call.saved[0];
  DispatchDType(d_output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](int64_t b, int64_t h) {
      const auto wanted = [&](Input i) {
        return d_inputs[i].empty() ? kernels::MatrixView<T>()
                                   : d_inputs[i].Sequence<T>(b, h);
      };
      kernels::VectorDecayGradients<T> gradients = {
          wanted(kQuery), wanted(kKey), wanted(kValue), wanted(kDecay)};
      if (rule_.bonus && !d_inputs[kBonus].empty()) {
        gradients.d_bonus = d_inputs[kBonus].data<T>() + h * d.key_dim;
      }
      std::vector<T> d_state(d.key_dim * d.value_dim);  // of the last state: 0
      kernels::VectorDecayBackward(
          OneHead<T>(call, Scale(d), chunk, b, h),
          saved.data<T>() + (b * d.heads + h) * saved.dim(1),
          d_output.Sequence<T>(b, h), d_state.data(), gradients);
    };
    // The sequences of a batch add to one gradient of a head's bonus.
    kernels::ParallelFor(call.pool, d.heads, [&](size_t h, int) {
      for (int64_t b = 0; b < d.batch; ++b) run(b, h);
    });
  });
  return absl::OkStatus();
}

std::unique_ptr<State> VectorDecayOperator::NewState(const Dims& dims,
                                                     DType dtype) const {
  return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/false, dtype);
}

int64_t VectorDecayOperator::StateBytes(const Dims& d) const {
  return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
}

int64_t VectorDecayOperator::Block(const Dims& d, Form form) const {
  return std::min<int64_t>(16, ChunkOf(form, d.length, chunk_));
}

Cost VectorDecayOperator::ForwardCost(const Dims& d, Form form) const {
  const double heads = static_cast<double>(d.batch) * d.heads;
  const double tokens = heads * d.length;
  const double k = d.key_dim, v = d.value_dim;
  const int64_t block = Block(d, form);
  const double blocks = heads * ((d.length + block - 1) / block);
  Cost cost;
  const int64_t run = std::min<int64_t>(4, block);
  // Scores cost a product per key dimension, and a decay for each pair of a run
  // of four tokens; keys fade once for each later run of their block, and the
  // state once a block.
  cost.flops = heads * CausalPairs(d.length, block) * 2 * (k + v) +
               (heads * CausalPairs(d.length, run) - tokens) * k +
               tokens * (std::min<double>(block, d.length) / run - 1) / 2 * k +
               tokens * (4 * k * v + 5 * k) + blocks * k * v;
  cost.exps = tokens * k;
  cost.bytes = sizeof(float) * (tokens * (3 * k + 2 * v) + heads * 2 * k * v +
                                (rule_.bonus ? d.heads * k : 0));
  return cost;
}

Cost VectorDecayOperator::BackwardCost(const Dims& d, Form form) const {
  Cost cost = Operator::BackwardCost(d, form);
  // The scores, with their decays, once more.
  cost.flops += 1.5 * CausalScoresFlops(d, d.key_dim, Block(d, form));
  return cost;
}

absl::StatusOr<std::vector<Tensor>> VectorDecayOperator::PairInputs(
    const Tensor& queries, const Tensor& keys, const Tensor& values) const {
  return NeutralInputs(Inputs(), {{"q", queries}, {"k", keys}, {"v", values}},
                       {{"u", 1}});
}

absl::Status VectorDecayOperator::Reference(const OperatorCall& call) const {
  const Dims& d = call.dims;
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const auto q = call.inputs[kQuery].Sequence<double>(b, h);
      const auto k = call.inputs[kKey].Sequence<double>(b, h);
      const auto v = call.inputs[kValue].Sequence<double>(b, h);
      const auto g = call.inputs[kDecay].Sequence<double>(b, h);
      const auto o = call.output.Sequence<double>(b, h);
      for (int64_t i = 0; i < d.length; ++i) {
        for (int64_t c = 0; c < d.value_dim; ++c) o(i, c) = 0;
        for (int64_t j = 0; j <= i; ++j) {
          double score = 0;
          for (int64_t n = 0; n < d.key_dim; ++n) {
            double faded = 0;  // log of what is left of key j in dimension n
            for (int64_t t = j + 1; t < (rule_.bonus ? i : i + 1); ++t) {
              faded += g(t, n);
            }
            double weight = std::exp(faded);
            if (rule_.bonus && i == j) {
              weight = call.inputs[kBonus].data<double>()[h * d.key_dim + n];
            }
            score += q(i, n) * k(j, n) * weight;
          }
          for (int64_t c = 0; c < d.value_dim; ++c) {
            o(i, c) += Scale(d) * score * v(j, c);
          }
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace mneme
