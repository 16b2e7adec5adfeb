// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/generalized_delta_operator.h"

#include <algorithm>
#include <cmath>

#include "attention/kernels/generalized_delta.h"
#include "attention/kernels/parallel.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/one_token.h"

namespace mneme {
namespace {

enum Input { kQuery, kKey, kValue, kLogDecay, kA, kB };

// The kernel's view of one (batch, head).
template <typename T>
kernels::GeneralizedDelta<T> OneHead(const OperatorCall& call, int64_t chunk,
                                     int64_t b, int64_t h) {
  kernels::GeneralizedDelta<T> head;
  head.q = call.inputs[kQuery].Sequence<T>(b, h);
  head.k = call.inputs[kKey].Sequence<T>(b, h);
  head.v = call.inputs[kValue].Sequence<T>(b, h);
  head.log_decay = call.inputs[kLogDecay].Sequence<T>(b, h);
  head.a = call.inputs[kA].Sequence<T>(b, h);
  head.b = call.inputs[kB].Sequence<T>(b, h);
  head.chunk = static_cast<size_t>(chunk);
  return head;
}

// Calls run(b, h, i) with i = b * heads + h for every head of the batch.
template <typename Run>
void ForEachHead(const OperatorCall& call, const Run& run) {
  const int64_t heads = call.dims.heads;
  kernels::ParallelFor(call.pool, call.dims.batch * heads,
                       [&](size_t i, int) { run(i / heads, i % heads, i); });
}

// One token of all heads.
template <typename T>
void Step(const OperatorCall& call, T* states) {
  kernels::GeneralizedDelta<T> all;
  all.q = RowsOfHeads<T>(call.inputs[kQuery]);
  all.k = RowsOfHeads<T>(call.inputs[kKey]);
  all.v = RowsOfHeads<T>(call.inputs[kValue]);
  all.log_decay = RowsOfHeads<T>(call.inputs[kLogDecay]);
  all.a = RowsOfHeads<T>(call.inputs[kA]);
  all.b = RowsOfHeads<T>(call.inputs[kB]);
  const kernels::MatrixView<T> o = RowsOfHeads<T>(call.output);
  ForHeadRanges(call.pool, all.q.rows, [&](size_t first, size_t count) {
    kernels::GeneralizedDelta<T> some = all;
    for (auto* rows :
         {&some.q, &some.k, &some.v, &some.log_decay, &some.a, &some.b}) {
      *rows = rows->Rows(first, count);
    }
    kernels::GeneralizedDeltaStep(
        some, states + first * all.q.cols * all.v.cols, o.Rows(first, count));
  });
}

}  // namespace

std::vector<InputSpec> GeneralizedDeltaOperator::Inputs() const {
  return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
          {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
          {"v", "BLHV", "values [batch, length, heads, value_dim]"},
          {"g", "BLHK", "log decays [batch, length, heads, key_dim]",
           Domain::kNonPositive},
          // The recurrence is linear in the product of a and b, and diverges
          // where that is large. Independent rows of length 1 cover the general
          // case and, on average, grow less than the decays shrink.
          {"a", "BLHK",
           "what is read before the decay [batch, length, heads, key_dim]",
           Domain::kUnitNorm},
          {"b", "BLHK",
           "along what the read is written [batch, length, heads, key_dim]",
           Domain::kUnitNorm}};
}

absl::Status GeneralizedDeltaOperator::Forward(OperatorCall* call) const {
  const Dims& d = call->dims;
  const int64_t chunk = ChunkOf(call->form, d.length, chunk_);
  const int64_t state_size = d.key_dim * d.value_dim;
  Tensor saved;
  if (call->keep) {
    const int64_t saved_size = kernels::GeneralizedDeltaSavedSize(
        d.length, chunk, d.key_dim, d.value_dim);
    saved = Tensor(call->arena, call->output.dtype(),
                   {d.batch * d.heads, saved_size});
    call->saved = {saved};
  }
  DispatchDType(call->output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* const states = call->state == nullptr
                          ? nullptr
                          : static_cast<DenseState*>(call->state)
                                ->tensor()
                                .template data<T>();
    if (states != nullptr && !call->keep && d.length == 1) {
      return Step(*call, states);
    }
    ForEachHead(*call, [&](int64_t b, int64_t h, int64_t i) {
      std::vector<T> fresh(states == nullptr ? state_size : 0);
      T* state = states == nullptr ? fresh.data() : states + i * state_size;
      kernels::GeneralizedDeltaForward(
          OneHead<T>(*call, chunk, b, h), state, call->output.Sequence<T>(b, h),
          call->keep ? saved.data<T>() + i * saved.dim(1) : nullptr);
    });
  });
  return absl::OkStatus();
}

absl::Status GeneralizedDeltaOperator::Backward(
    const OperatorCall& call, const Tensor& d_output,
    absl::Span<const Tensor> d_inputs) const {
  const Dims& d = call.dims;
  const int64_t chunk = ChunkOf(call.form, d.length, chunk_);
  const Tensor& saved = call.saved[0];
  DispatchDType(d_output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ForEachHead(call, [&](int64_t b, int64_t h, int64_t i) {
      const auto wanted = [&](Input input) {
        return d_inputs[input].empty() ? kernels::MatrixView<T>()
                                       : d_inputs[input].Sequence<T>(b, h);
      };
      // Nothing reads the final state.
      std::vector<T> d_state(d.key_dim * d.value_dim);
      kernels::GeneralizedDeltaBackward(
          OneHead<T>(call, chunk, b, h), saved.data<T>() + i * saved.dim(1),
          d_output.Sequence<T>(b, h), d_state.data(),
          {wanted(kQuery), wanted(kKey), wanted(kValue), wanted(kLogDecay),
           wanted(kA), wanted(kB)});
    });
  });
  return absl::OkStatus();
}

std::unique_ptr<State> GeneralizedDeltaOperator::NewState(const Dims& dims,
                                                          DType dtype) const {
  return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/false, dtype);
}

int64_t GeneralizedDeltaOperator::StateBytes(const Dims& d) const {
  return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
}

int64_t GeneralizedDeltaOperator::Block(const Dims& d, Form form) const {
  return std::min({ChunkOf(form, d.length, chunk_), d.length,
                   static_cast<int64_t>(kernels::kGeneralizedDeltaBlock)});
}

Cost GeneralizedDeltaOperator::ForwardCost(const Dims& d, Form form) const {
  const double tokens = static_cast<double>(d.batch) * d.heads * d.length;
  const double k = d.key_dim, v = d.value_dim;
  const double block = Block(d, form);
  Cost cost;
  // A read, the decay, two writes and another read of the state.
  cost.flops = tokens * 9 * k * v;
  if (block > 1) {
    // Two reads and two writes, and its decay once a block; scores of a with
    // earlier writers, of q with its own too, and the decays of writers from
    // token to token, over the causal half of a block; the substitution; and
    // decays to the block's ends.
    cost.flops = tokens * (8 * k * v + k * v / block + 4 * block * (k + v) +
                           (block - 1) * k + 6 * k);
  }
  cost.exps = tokens * k;
  cost.bytes = sizeof(float) *
               (tokens * (5 * k + 2 * v) + 2.0 * d.batch * d.heads * k * v);
  return cost;
}

Cost GeneralizedDeltaOperator::BackwardCost(const Dims& d, Form form) const {
  Cost cost = Operator::BackwardCost(d, form);
  const int64_t block = Block(d, form);
  if (block > 1) {
    // Scores of a and q with both kinds of writers once more.
    cost.flops += 4.0 * d.batch * d.heads * d.length * d.key_dim * block;
  }
  return cost;
}

absl::StatusOr<std::vector<Tensor>> GeneralizedDeltaOperator::PairInputs(
    const Tensor& queries, const Tensor& keys, const Tensor& values) const {
  auto inputs = NeutralInputs(
      Inputs(),
      {{"q", queries}, {"k", keys}, {"v", values}, {"a", keys}, {"b", keys}});
  if (!inputs.ok()) return inputs;
  (*inputs)[kKey] = (*inputs)[kB];
  const Tensor& a = (*inputs)[kA];
  DispatchDType(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < a.elements(); ++i) a.data<T>()[i] *= -1;
  });
  return inputs;
}

absl::Status GeneralizedDeltaOperator::Reference(
    const OperatorCall& call) const {
  const Dims& d = call.dims;
  for (int64_t n = 0; n < d.batch; ++n) {
    for (int64_t h = 0; h < d.heads; ++h) {
      const auto q = call.inputs[kQuery].Sequence<double>(n, h);
      const auto k = call.inputs[kKey].Sequence<double>(n, h);
      const auto v = call.inputs[kValue].Sequence<double>(n, h);
      const auto g = call.inputs[kLogDecay].Sequence<double>(n, h);
      const auto a = call.inputs[kA].Sequence<double>(n, h);
      const auto b = call.inputs[kB].Sequence<double>(n, h);
      const auto o = call.output.Sequence<double>(n, h);
      // Columns of the state do not meet.
      for (int64_t c = 0; c < d.value_dim; ++c) {
        std::vector<double> state(d.key_dim);
        for (int64_t t = 0; t < d.length; ++t) {
          double read = 0;
          for (int64_t r = 0; r < d.key_dim; ++r) read += a(t, r) * state[r];
          o(t, c) = 0;
          for (int64_t r = 0; r < d.key_dim; ++r) {
            state[r] = std::exp(g(t, r)) * state[r] + b(t, r) * read +
                       k(t, r) * v(t, c);
            o(t, c) += q(t, r) * state[r];
          }
        }
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace mneme
