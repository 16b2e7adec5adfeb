// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/attention_operator.h"

#include <cmath>

#include "attention/kernels/vector_math.h"

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

void AttentionOperator::AddParts(const std::vector<Tensor>& parts,
                                 kernels::ThreadPool* pool) {
  if (parts.size() == 1) return;
  const int64_t batch = parts[0].dim(0), length = parts[0].dim(1);
  const int64_t width = parts[0].dim(2) * parts[0].dim(3);
  constexpr int64_t kTokens = 64;  // at a time
  const int64_t pieces = (length + kTokens - 1) / kTokens;
  DispatchDType(parts[0].dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::ParallelFor(pool, batch * pieces, [&](size_t i, int) {
      const int64_t b = i / pieces, begin = i % pieces * kTokens;
      const int64_t end = std::min(begin + kTokens, length);
      for (size_t p = 1; p < parts.size(); ++p) {
        const int64_t tokens = parts[p].dim(1), before = length - tokens;
        const int64_t first = std::max(begin, before);
        if (first >= end) continue;
        kernels::Axpy(
            T{1}, parts[p].data<T>() + (b * tokens + first - before) * width,
            parts[0].data<T>() + (b * length + first) * width,
            (end - first) * width);
      }
    });
  });
}

template <typename T>
void AttentionOperator::MergeParts(const Tensor& results, const Tensor& lse,
                                   int64_t parts, const OperatorCall& call) {
  const Dims& d = call.dims;
  const int64_t group = d.heads / d.kv_heads, width = d.value_dim;
  std::vector<double> weight(parts);
  for (int64_t head = 0; head < d.batch * d.heads; ++head) {
    const int64_t first = head / group * parts * group + head % group;
    double top = -INFINITY, total = 0;
    for (int64_t p = 0; p < parts; ++p) {
      weight[p] = lse.data<T>()[first + p * group];
      top = std::max(top, weight[p]);
    }
    for (double& w : weight) total += w = std::exp(w - top);
    T* const o = call.output.data<T>() + head * width;
    std::fill_n(o, width, T{0});
    for (int64_t p = 0; p < parts; ++p) {
      // Where all scores are -infinity there is no result.
      if (weight[p] == 0 && lse.data<T>()[first + p * group] == -INFINITY) {
        continue;
      }
      kernels::Axpy(static_cast<T>(weight[p] / total),
                    results.data<T>() + (first + p * group) * width, o, width);
    }
  }
}

template void AttentionOperator::MergeParts<float>(const Tensor&, const Tensor&,
                                                   int64_t,
                                                   const OperatorCall&);
template void AttentionOperator::MergeParts<double>(const Tensor&,
                                                    const Tensor&, int64_t,
                                                    const OperatorCall&);

Cost AttentionOperator::ForwardCost(const Dims& d, Form) const {
  const double pairs = Pairs(d) * static_cast<double>(d.batch) * d.heads;
  Cost cost;
  cost.flops = 2 * pairs * (d.key_dim + d.value_dim);
  cost.exps = pairs;
  cost.bytes = sizeof(float) * static_cast<double>(d.batch) * d.length *
               (d.key_dim + d.value_dim) * (d.heads + d.kv_heads);
  return cost;
}

Cost AttentionOperator::BackwardCost(const Dims& d, Form form) const {
  Cost cost = Operator::BackwardCost(d, form);
  // The scores once more.
  cost.flops +=
      2 * Pairs(d) * static_cast<double>(d.batch) * d.heads * d.key_dim;
  return cost;
}

}  // namespace mneme
