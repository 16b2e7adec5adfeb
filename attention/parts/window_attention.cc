// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/window_attention.h"

#include <algorithm>
#include <cmath>

#include "attention/parts/attention_heads.h"

namespace mneme {

absl::Status WindowAttention::Forward(OperatorCall* call) const {
  auto* cache = static_cast<WindowCache*>(call->state);
  const Tensor &keys = call->inputs[kKey], &values = call->inputs[kValue];
  const int64_t length = call->dims.length;
  if (cache != nullptr && length == 1) {
    cache->Append(keys, values, 0, 1);
    ReadOneToken(*call, *cache);
    return absl::OkStatus();
  }
  KeysSeen seen(keys, values, /*before=*/0);
  if (cache != nullptr) {
    seen = KeysSeen(cache->KeysThen(keys, call->arena),
                    cache->ValuesThen(values, call->arena), cache->held());
    cache->Append(keys, values, 0, length);
  }
  ForwardQueries(call, seen, QueryBlock(call->form, length, chunk_),
                 [&](const auto& head, int64_t start, int64_t rows) {
                   const int64_t first = seen.before() + start;
                   const int64_t keys = first + rows;
                   head.Forward(start, rows, head.k.Rows(0, keys),
                                head.v.Rows(0, keys), Mask(first));
                 });
  return absl::OkStatus();
}

absl::Status WindowAttention::Backward(
    const OperatorCall& call, const Tensor& d_output,
    absl::Span<const Tensor> d_inputs) const {
  BackwardKeys(call, d_output, d_inputs, [&](const auto& head) {
    const int64_t queries = head.q.rows, keys = head.k.rows;
    const int64_t rows = std::min(queries, keys + window_ - 1);
    head.Backward(0, rows, head.k, head.v, Mask(0), head.d_k, head.d_v);
  });
  return absl::OkStatus();
}

std::unique_ptr<State> WindowAttention::NewState(const Dims& d,
                                                 DType dtype) const {
  return std::make_unique<WindowCache>(dtype, d.batch, d.kv_heads, d.key_dim,
                                       d.value_dim, window_);
}

int64_t WindowAttention::StateBytes(const Dims& d) const {
  return sizeof(float) * d.batch * std::min(d.length, window_) * d.kv_heads *
         (d.key_dim + d.value_dim);
}

Cost WindowAttention::StepCost(const Dims& d) const {
  Cost cost = Operator::StepCost(d);
  if (d.length >= window_) {  // the token takes the place of one nobody reads
    cost.bytes -= sizeof(float) * static_cast<double>(d.batch) * d.kv_heads *
                  (d.key_dim + d.value_dim);
  }
  return cost;
}

absl::Status WindowAttention::Reference(const OperatorCall& call) const {
  SoftmaxOracle(call, [&](int64_t, int64_t, int64_t i, int64_t j) {
    return j <= i && j > i - window_ ? 0.0 : -INFINITY;
  });
  return absl::OkStatus();
}

double WindowAttention::Pairs(const Dims& d) const {
  // The first tokens see 1, 2, ... keys, all others a full window.
  const double full = std::min(d.length, window_);
  return full * (full + 1) / 2 + (d.length - full) * full;
}

kernels::AttentionMask WindowAttention::Mask(int64_t query_offset) const {
  kernels::AttentionMask mask = CausalFrom(query_offset);
  mask.window = window_;
  return mask;
}

}  // namespace mneme
