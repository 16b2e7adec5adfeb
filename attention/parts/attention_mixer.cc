// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/attention_mixer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/kernels/rotary.h"

namespace mneme {

AttentionMixer::AttentionMixer(const MixerConfig& config,
                               std::unique_ptr<Operator> op,
                               const Layout& layout)
    : QkvMixer(config, std::move(op), layout) {
  if (config.options.Bool("rope")) {
    frequencies_ = kernels::RotaryFrequencies(layout.key_dim,
                                              config.options.Real("rope_base"));
  }
}

absl::StatusOr<QkvMixer::Layout> AttentionMixer::LayoutOf(
    const MixerConfig& config, absl::string_view variant, bool grouped) {
  Layout layout = EvenLayout(config);
  if (grouped && config.options.Int("kv_heads") != 0) {
    layout.kv_heads = config.options.Int("kv_heads");
  }
  if (layout.heads % layout.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(variant, ": kv_heads = ", layout.kv_heads,
                     " must divide the model's heads = ", layout.heads));
  }
  if (config.options.Bool("rope") && layout.key_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        variant, ": rope turns pairs, so the head width must be even, not ",
        layout.key_dim));
  }
  return layout;
}

void AttentionMixer::Prepare(const MixerCall&, int64_t first_position,
                             std::vector<Variable>* inputs) const {
  if (frequencies_.empty()) return;
  for (int i : {0, 1}) {
    (*inputs)[i] = Rotary((*inputs)[i], frequencies_,
                          kernels::RotaryPairing::kHalves, first_position);
  }
}

OptionSpec ChunkOption() {
  return OptionSpec::Int("chunk", 64, 1, 65536,
                         "query tokens a block in the chunked form");
}

std::vector<OptionSpec> AttentionMixerOptions(bool grouped,
                                              std::vector<OptionSpec> others) {
  std::vector<OptionSpec> options;
  if (grouped) {
    options.push_back(OptionSpec::Int(
        "kv_heads", 0, 0, 1024,
        "key/value heads, shared by groups of query heads; 0: as many as query "
        "heads"));
  }
  options.push_back(
      OptionSpec::Bool("rope", false, "rotary positions on queries and keys"));
  options.push_back(
      OptionSpec::Real("rope_base", 10000, 1, 1e9, "base of rotary angles"));
  for (OptionSpec& other : others) options.push_back(std::move(other));
  return options;
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeAttentionMixer(
    const MixerConfig& config, absl::string_view variant, bool grouped,
    std::unique_ptr<Operator> op) {
  auto layout = AttentionMixer::LayoutOf(config, variant, grouped);
  if (!layout.ok()) return layout.status();
  return std::make_unique<AttentionMixer>(config, std::move(op), *layout);
}

}  // namespace mneme
