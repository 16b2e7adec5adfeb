// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/attention_operator.h"

namespace mneme {

KeysSeen KeysSeen::Of(const OperatorCall& call) {
  const Tensor &keys = call.inputs[1], &values = call.inputs[2];
  auto* cache = static_cast<KeyValueCache*>(call.state);
  if (cache == nullptr) return {keys, values, 0};
  KeysSeen seen({}, {}, cache->tokens());
  cache->Append(keys, values);
  seen.cache_ = cache;
  return seen;
}

std::vector<InputSpec> AttentionOperator::Inputs() const {
  return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
          {"k", "BLGK", "keys [batch, length, kv_heads, key_dim]"},
          {"v", "BLGV", "values [batch, length, kv_heads, value_dim]"}};
}

std::unique_ptr<State> AttentionOperator::NewState(const Dims& d,
                                                   DType dtype) const {
  return std::make_unique<KeyValueCache>(dtype, d.batch, d.kv_heads, d.key_dim,
                                         d.value_dim);
}

int64_t AttentionOperator::StateBytes(const Dims& d) const {
  return sizeof(float) * d.batch * d.length * d.kv_heads *
         (d.key_dim + d.value_dim);
}

Cost AttentionOperator::ForwardCost(const Dims& d, Form) const {
  const double pairs = Pairs(d) * static_cast<double>(d.batch) * d.heads;
  Cost cost;
  cost.flops = 2 * pairs * (d.key_dim + d.value_dim);
  cost.exps = pairs;
  cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
               (d.key_dim + d.value_dim) * (d.heads + d.kv_heads);
  return cost;
}

}  // namespace mneme
