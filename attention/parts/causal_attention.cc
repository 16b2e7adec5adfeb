// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/causal_attention.h"

#include <cmath>

namespace mneme {

absl::Status CausalAttention::Forward(OperatorCall* call) const {
  const int64_t length = call->dims.length;
  const KeysSeen seen = KeysSeen::Of(*call);
  if (length == 1 && !call->keep) {
    ReadOneToken(*call, seen);
    return absl::OkStatus();
  }
  ForwardQueries(call, seen, QueryBlock(call->form, length, chunk_),
                 [&](const auto& head, int64_t start, int64_t rows) {
                   const int64_t first = seen.before() + start;
                   const int64_t keys = first + rows;
                   head.Forward(start, rows, head.k.Rows(0, keys),
                                head.v.Rows(0, keys), CausalFrom(first));
                 });
  return absl::OkStatus();
}

absl::Status CausalAttention::Backward(
    const OperatorCall& call, const Tensor& d_output,
    absl::Span<const Tensor> d_inputs) const {
  BackwardKeys(call, d_output, d_inputs, [&](const auto& head) {
    head.Backward(0, head.q.rows, head.k, head.v, CausalFrom(0), head.d_k,
                  head.d_v);
  });
  return absl::OkStatus();
}

absl::Status CausalAttention::Reference(const OperatorCall& call) const {
  SoftmaxOracle(call, [](int64_t, int64_t, int64_t i, int64_t j) {
    return j <= i ? 0.0 : -INFINITY;
  });
  return absl::OkStatus();
}

}  // namespace mneme
