// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention (arXiv 1706.03762) with grouped-query heads (2305.13245)
// and optional rotary positions (2104.09864):
//
//   o_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(key_dim)) v_j,
//
// query head h reads key/value head floor(h * kv_heads / heads). The exact
// memory: every pair ever seen is kept, so recall is perfect and the state
// grows with every token. The operator is parts/causal_attention.h, because
// other mechanisms stand on it too.

#include <memory>

#include "attention/parts/attention_mixer.h"
#include "attention/parts/bf16_causal_attention.h"
#include "attention/parts/causal_attention.h"
#include "attention/parts/precision.h"
#include "attention/variant.h"

namespace mneme {
namespace {

std::unique_ptr<Operator> OperatorOf(const Options& options) {
  if (WantsBf16(options)) return std::make_unique<Bf16CausalAttention>(options);
  return std::make_unique<CausalAttention>(options);
}

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return OperatorOf(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  return MakeAttentionMixer(config, "softmax", /*grouped=*/true,
                            OperatorOf(config.options));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "softmax";
  d.title = "Softmax attention";
  d.family = "softmax";
  d.paper = "arXiv 1706.03762";
  d.summary = "exact attention over every token seen; the memory grows";
  d.tolerance = 3e-7;
  d.options = AttentionMixerOptions(/*grouped=*/true,
                                    {ChunkOption(), PrecisionOption()});
  d.variations = {{{"rope", "true"}},
                  {{"kv_heads", "1"}},
                  {{"rope", "true"}, {"kv_heads", "1"}}};
  AddBf16Tolerance(6e-3, &d);  // measured 4.2e-3
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
