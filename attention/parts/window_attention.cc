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
    ReadRing(*call, *cache);
    return absl::OkStatus();
  }
  KeysSeen seen(keys, values, /*before=*/0);
  if (cache != nullptr) {
    seen = KeysSeen(cache->KeysThen(keys, call->arena),
                    cache->ValuesThen(values, call->arena), cache->held());
    cache->Append(keys, values, 0, length);
  }
  const int64_t block = QueryBlock(call->form, length, chunk_);
  ForwardHeads(call, seen, [&](const auto& head) {
    for (int64_t start = 0; start < length; start += block) {
      const int64_t rows = std::min(block, length - start);
      const int64_t at = seen.before() + start;
      const int64_t first = std::max<int64_t>(0, at - window_ + 1);
      const int64_t count = at + rows - first;
      head.Forward(start, rows, head.k.Rows(first, count),
                   head.v.Rows(first, count), Mask(at - first));
    }
  });
  return absl::OkStatus();
}

absl::Status WindowAttention::Backward(
    const OperatorCall& call, const Tensor& d_output,
    absl::Span<const Tensor> d_inputs) const {
  BackwardHeads(call, d_output, d_inputs, [&](const auto& head) {
    head.Backward(0, call.dims.length, head.k, head.v, Mask(0), head.d_k,
                  head.d_v);
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

void WindowAttention::ReadRing(const OperatorCall& call,
                               const WindowCache& ring) {
  DispatchDType(call.output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ForEachHead(call.pool, call.dims, [&](int64_t b, int64_t h, int64_t g) {
      kernels::SoftmaxAttentionForward(call.inputs[kQuery].Sequence<T>(b, h),
                                       ring.Keys<T>(b, g), ring.Values<T>(b, g),
                                       ScoreScale<T>(call.dims), Everything(),
                                       call.output.Sequence<T>(b, h), nullptr);
    });
  });
}

}  // namespace mneme
