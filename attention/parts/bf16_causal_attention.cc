// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/bf16_causal_attention.h"

#include <algorithm>
#include <vector>

#include "attention/kernels/bf16_attention.h"
#include "attention/parts/attention_heads.h"
#include "attention/parts/bf16_cache.h"
#include "attention/parts/precision.h"

namespace mneme {

using kernels::Bf16AttentionHead;

absl::Status Bf16CausalAttention::Forward(OperatorCall* call) const {
  if (!RunsInBf16(*call)) return CausalAttention::Forward(call);
  const Dims& d = call->dims;
  // Without a state the keys and values are rounded all the same.
  Bf16KeyValueCache own(d.batch, d.kv_heads, d.key_dim, d.value_dim);
  Bf16KeyValueCache* cache = call->state == nullptr
                                 ? &own
                                 : static_cast<Bf16KeyValueCache*>(call->state);
  const int64_t before = cache->tokens();
  cache->Append(call->inputs[kKey], call->inputs[kValue]);

  // Heads that read the same cache share what one task reads, if their queries
  // are few; otherwise every head is a task.
  const int64_t block = QueryBlock(call->form, d.length, d.length);
  const int64_t group = d.heads / d.kv_heads;
  const int64_t shared =
      block <= static_cast<int64_t>(kernels::kBf16FewQueries) ? group : 1;
  kernels::ParallelFor(
      call->pool, d.batch * d.heads / shared, [&](size_t task, int) {
        const int64_t first = task * shared;
        const int64_t b = first / d.heads, h = first % d.heads, g = h / group;
        std::vector<Bf16AttentionHead> heads(shared);
        for (int64_t start = 0; start < d.length; start += block) {
          const int64_t rows = std::min(block, d.length - start);
          for (int64_t i = 0; i < shared; ++i) {
            const Tensor& q = call->inputs[kQuery];
            heads[i] = {
                q.Sequence<float>(b, h + i).Rows(start, rows),
                call->output.Sequence<float>(b, h + i).Rows(start, rows)};
          }
          const int64_t at = before + start;
          kernels::Bf16AttentionForward(heads.data(), heads.size(),
                                        cache->Keys(b, g).Rows(0, at + rows),
                                        cache->Values(b, g).Rows(0, at + rows),
                                        ScoreScale<float>(d), CausalFrom(at));
        }
      });
  return absl::OkStatus();
}

std::unique_ptr<State> Bf16CausalAttention::NewState(const Dims& d,
                                                     DType dtype) const {
  if (dtype != DType::kFloat32) return CausalAttention::NewState(d, dtype);
  return std::make_unique<Bf16KeyValueCache>(d.batch, d.kv_heads, d.key_dim,
                                             d.value_dim);
}

int64_t Bf16CausalAttention::StateBytes(const Dims& d) const {
  return CausalAttention::StateBytes(d) / 2;
}

int64_t Bf16CausalAttention::StateBytesOf(const Dims& d, DType dtype) const {
  return dtype == DType::kFloat32 ? StateBytes(d)
                                  : CausalAttention::StateBytes(d) *
                                        static_cast<int64_t>(SizeOf(dtype)) /
                                        static_cast<int64_t>(sizeof(float));
}

}  // namespace mneme
