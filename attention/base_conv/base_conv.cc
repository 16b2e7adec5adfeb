// SPDX-License-Identifier: Apache-2.0
//
// The gated short convolution (BaseConv, arXiv 2312.04927) by itself, the
// baseline of the recall papers; parts/base_conv.h defines it.
//
// It mixes neighbours only: what lies more than taps - 1 tokens back is out of
// reach of one layer, so it shows how much of a task needs no memory. That is
// not so of the layout `zoology` (long_filter_mixer.h), that paper's own model,
// whose every second layer sees the whole sequence.

#include "attention/parts/base_conv.h"

#include <memory>

#include "attention/base_conv/long_filter_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  if (config.options.Choice("layout") == "zoology") {
    return MakeLongFilterMixer(config);
  }
  BaseConvLayout layout;
  layout.taps = config.options.Int("taps");
  layout.expand = config.options.Int("expand");
  layout.chunk = config.options.Int("chunk");
  return MakeBaseConvMixer(config, "base_conv", layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "base_conv";
  d.title = "Gated short convolution";
  d.family = "convolution";
  d.paper = "arXiv 2312.04927";
  d.summary = "three neighbours and a gate: what needs no memory";
  d.tolerance = 2e-7;  // measured 1.4e-7
  d.options = {
      OptionSpec::Choice("layout", "based", {"based", "zoology"},
                         "Based's layer; or Zoology's, without activation and "
                         "output projection, with a filter as long as the "
                         "sequence in every second layer"),
      OptionSpec::Int("taps", 3, 1, 8, "tokens the convolution sees"),
      OptionSpec::Int("expand", 4, 1, 16,
                      "width of both projections together, in model widths"),
      OptionSpec::Int("chunk", 64, 1, 4096,
                      "tokens a block in the chunked form")};
  d.variations = {{{"taps", "1"}}, {{"layout", "zoology"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return NewBaseConvOperator(options.Int("chunk"));
     },
     MakeMixer});

}  // namespace
}  // namespace mneme
