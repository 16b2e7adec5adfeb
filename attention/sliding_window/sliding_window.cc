// SPDX-License-Identifier: Apache-2.0
//
// Sliding window attention (Longformer, arXiv 2004.05150; as the causal layer
// of Mistral 7B, 2310.06825): softmax attention over the last `window` tokens,
// the query's own included, exactly window keys and not one more;
// parts/window_attention.h defines it.
//
// What leaves the window is forgotten for good, so the state stops growing at
// `window` tokens; a stack of n layers sees n (window - 1) tokens back.

#include <memory>

#include "attention/parts/attention_mixer.h"
#include "attention/parts/window_attention.h"
#include "attention/variant.h"

namespace mneme {
namespace {

std::unique_ptr<Operator> NewOperator(const Options& options) {
  return std::make_unique<WindowAttention>(options.Int("window"),
                                           options.Int("chunk"));
}

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return NewOperator(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  return MakeAttentionMixer(config, "sliding_window", /*grouped=*/true,
                            NewOperator(config.options));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "sliding_window";
  d.title = "Sliding window attention";
  d.family = "softmax";
  d.paper = "arXiv 2004.05150";
  d.summary = "exact attention over the last few tokens, nothing before them";
  d.tolerance = 5e-7;
  d.options = AttentionMixerOptions(
      /*grouped=*/true, {OptionSpec::Int("window", 16, 1, 1 << 20,
                                         "keys a query sees, its own included"),
                         ChunkOption()});
  d.variations = {{{"window", "1"}},
                  {{"window", "5"}, {"rope", "true"}, {"kv_heads", "1"}},
                  {{"window", "64"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
