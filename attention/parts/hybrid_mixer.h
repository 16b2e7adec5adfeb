// SPDX-License-Identifier: Apache-2.0
//
// Based's hybrid (arXiv 2402.18668): a mechanism with a memory of fixed size
// sees far but blurs, so its models put it between layers that see near and
// precisely, gated short convolutions (base_conv.h) and softmax over a short
// window (window_attention.h). By the number of the layer, from 0:
//
//   none      every layer is the mechanism
//   window    mechanism, window, and again
//   release   convolution, mechanism, window, convolution, convolution, and
//             again: the pattern of the paper's released models, where of 27
//             layers 1, 6, 11, 16, 21 are the mechanism, the ones after them
//             windows, and all others convolutions, the last one too. A model
//             of two layers is then a convolution and the mechanism; the window
//             needs a third.
//
// The paper's windows are 64 tokens of 2048. Its released models' are
// configured as 256, of which their code looks back over half, 129 keys with
// the query's own. The default here is shorter, because shorter sequences are
// usual. Window layers have no rotary embedding; they take the model's short
// convolution, as the mechanism does, gated convolutions do not. The operator
// alone, without layers, is the mechanism's under every setting.

#ifndef MNEME_ATTENTION_PARTS_HYBRID_MIXER_H_
#define MNEME_ATTENTION_PARTS_HYBRID_MIXER_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attention/mixer.h"
#include "attention/plugin/options.h"

namespace mneme {

// `options`, then hybrid and window. The options must have `chunk`, tokens a
// block in the chunked form.
std::vector<OptionSpec> WithHybridOptions(std::vector<OptionSpec> options);

// config.layer's mixer: own(config) or one of the others, under the options
// above. InvalidArgument, naming the variant, for heads that do not fit.
absl::StatusOr<std::unique_ptr<Mixer>> MakeHybridMixer(
    const MixerConfig& config, absl::string_view variant,
    const std::function<std::unique_ptr<Mixer>(const MixerConfig&)>& own);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_HYBRID_MIXER_H_
