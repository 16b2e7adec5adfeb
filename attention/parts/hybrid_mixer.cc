// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/hybrid_mixer.h"

#include "attention/parts/base_conv.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/window_attention.h"

namespace mneme {
namespace {

// One letter a layer, repeated: Mechanism, Window, Convolution.
absl::string_view Pattern(absl::string_view hybrid) {
  if (hybrid == "window") return "MW";
  if (hybrid == "release") return "CMWCC";
  return "M";
}

}  // namespace

std::vector<OptionSpec> WithHybridOptions(std::vector<OptionSpec> options) {
  options.push_back(OptionSpec::Choice(
      "hybrid", "none", {"none", "window", "release"},
      "layers in between: none, window attention, or gated convolutions too"));
  options.push_back(OptionSpec::Int("window", 16, 1, 1 << 20,
                                    "keys a query of a window layer sees"));
  return options;
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeHybridMixer(
    const MixerConfig& config, absl::string_view variant,
    const std::function<std::unique_ptr<Mixer>(const MixerConfig&)>& own) {
  const absl::string_view pattern = Pattern(config.options.Choice("hybrid"));
  const int64_t chunk = config.options.Int("chunk");
  switch (pattern[config.layer % pattern.size()]) {
    case 'W':
      return std::make_unique<QkvMixer>(
          config,
          std::make_unique<WindowAttention>(config.options.Int("window"),
                                            chunk),
          QkvMixer::EvenLayout(config));
    case 'C': {
      BaseConvLayout layout;
      layout.chunk = chunk;
      return MakeBaseConvMixer(config, variant, layout);
    }
    default:
      return own(config);
  }
}

}  // namespace mneme
