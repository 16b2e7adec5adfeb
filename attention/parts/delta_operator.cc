// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/delta_operator.h"

#include <cmath>

#include "attention/parts/additive_heads.h"

namespace mneme {
namespace {

enum Input { kQuery, kKey, kValue, kBeta, kLogDecay };

// One sequence and head of the definition; gates is 0, 1 or key_dim.
void Recur(const OperatorCall& call, int64_t b, int64_t h, int64_t gates) {
  const Dims& d = call.dims;
  const auto q = call.inputs[kQuery].Sequence<double>(b, h);
  const auto k = call.inputs[kKey].Sequence<double>(b, h);
  const auto v = call.inputs[kValue].Sequence<double>(b, h);
  const auto o = call.output.Sequence<double>(b, h);
  const double scale = 1 / std::sqrt(static_cast<double>(d.key_dim));
  // Columns of the state do not meet.
  for (int64_t c = 0; c < d.value_dim; ++c) {
    std::vector<double> state(d.key_dim);
    for (int64_t t = 0; t < d.length; ++t) {
      const int64_t token = (b * d.length + t) * d.heads + h;
      for (int64_t r = 0; r < d.key_dim && gates > 0; ++r) {
        state[r] *= std::exp(
            call.inputs[kLogDecay].data<double>()[token * gates + r % gates]);
      }
      double error = v(t, c);
      for (int64_t r = 0; r < d.key_dim; ++r) error -= state[r] * k(t, r);
      const double write = call.inputs[kBeta].data<double>()[token] * error;
      o(t, c) = 0;
      for (int64_t r = 0; r < d.key_dim; ++r) {
        state[r] += k(t, r) * write;
        o(t, c) += scale * state[r] * q(t, r);
      }
    }
  }
}

int64_t Gates(DeltaDecay decay, const Dims& dims) {
  switch (decay) {
    case DeltaDecay::kNone:
      return 0;
    case DeltaDecay::kPerHead:
      return 1;
    case DeltaDecay::kPerKeyDim:
      return dims.key_dim;
  }
  return 0;
}

}  // namespace

OptionSpec DeltaOperator::ChunkOption() {
  return OptionSpec::Int("chunk", 16, 1, 4096,
                         "tokens between saved states in the chunked form");
}

std::vector<InputSpec> DeltaOperator::Inputs() const {
  std::vector<InputSpec> specs = {
      {"q", "BLHK", "queries [batch, length, heads, key_dim]"},
      {"k", "BLHK", "unit keys [batch, length, heads, key_dim]",
       Domain::kUnitNorm},
      {"v", "BLHV", "values [batch, length, heads, value_dim]"},
      {"beta", "BLH", "write strengths [batch, length, heads]", Domain::kUnit}};
  if (decay_ == DeltaDecay::kPerHead) {
    specs.push_back({"g", "BLH", "log decays [batch, length, heads]",
                     Domain::kNonPositive});
  } else if (decay_ == DeltaDecay::kPerKeyDim) {
    specs.push_back({"g", "BLHK", "log decays [batch, length, heads, key_dim]",
                     Domain::kNonPositive});
  }
  return specs;
}

absl::Status DeltaOperator::Forward(OperatorCall* call) const {
  Tensor states;
  DeltaHeadsForward(Heads(*call), call->state, call->output, call->arena,
                    call->keep ? &states : nullptr);
  if (call->keep) call->saved = {states};
  return absl::OkStatus();
}

absl::Status DeltaOperator::Backward(const OperatorCall& call,
                                     const Tensor& d_output,
                                     absl::Span<const Tensor> d_inputs) const {
  DeltaHeadsGradients gradients;
  gradients.query = d_inputs[kQuery];
  gradients.key = d_inputs[kKey];
  gradients.value = d_inputs[kValue];
  gradients.beta = d_inputs[kBeta];
  if (decay_ != DeltaDecay::kNone) gradients.log_decay = d_inputs[kLogDecay];
  DeltaHeadsBackward(Heads(call), call.saved[0], d_output, gradients);
  return absl::OkStatus();
}

std::unique_ptr<State> DeltaOperator::NewState(const Dims& dims,
                                               DType dtype) const {
  return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/false, dtype);
}

int64_t DeltaOperator::StateBytes(const Dims& d) const {
  return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
}

Cost DeltaOperator::ForwardCost(const Dims& dims, Form form) const {
  return DeltaHeadsCost(dims, ChunkOf(form, dims.length, chunk_),
                        Gates(decay_, dims));
}

Cost DeltaOperator::BackwardCost(const Dims& dims, Form form) const {
  Cost cost = Operator::BackwardCost(dims, form);
  // Scores of keys with keys and of queries with keys once more, over the
  // causal half of a block.
  cost.flops += 2.0 * dims.batch * dims.heads * dims.length * dims.key_dim *
                DeltaBlock(dims, ChunkOf(form, dims.length, chunk_));
  return cost;
}

absl::Status DeltaOperator::Reference(const OperatorCall& call) const {
  for (int64_t b = 0; b < call.dims.batch; ++b) {
    for (int64_t h = 0; h < call.dims.heads; ++h) {
      Recur(call, b, h, Gates(decay_, call.dims));
    }
  }
  return absl::OkStatus();
}

DeltaHeads DeltaOperator::Heads(const OperatorCall& call) const {
  DeltaHeads a;
  a.query = call.inputs[kQuery];
  a.key = call.inputs[kKey];
  a.value = call.inputs[kValue];
  a.beta = call.inputs[kBeta];
  if (decay_ != DeltaDecay::kNone) a.log_decay = call.inputs[kLogDecay];
  a.scale = 1 / std::sqrt(static_cast<double>(call.dims.key_dim));
  a.chunk = ChunkOf(call.form, call.dims.length, chunk_);
  a.pool = call.pool;
  return a;
}

}  // namespace mneme
