// SPDX-License-Identifier: Apache-2.0
//
// BaseConv as in Zoology's own models (arXiv 2312.04927, section 5 and figure
// 2): of the normalised input u,
//
//   y_t = (sum_j h_j u_{t-j} + c) * (W u_t + b) + u_t   (channel by channel),
//
// where the filter h is short in the first, third, ... layer, with a bias c,
// and as long as the sequence in the others, as a function of the position:
//
//   h_j = W_2 relu(W_1 (j / (L - 1), cos p, -sin p) + b_1) + b_2,
//   p = 1e-4 * 2 pi j / L,   sixteen hidden numbers,
//
// where the long one has 1 in place of c / u: its own token is added once more.
// There is no activation and no output projection. Initial values are those of
// dense layers and convolutions, +-in^-1/2, unless the model draws them again.
//
// The state of a short filter is its last inputs; that of a long one is all of
// them.

#ifndef MNEME_ATTENTION_BASE_CONV_LONG_FILTER_MIXER_H_
#define MNEME_ATTENTION_BASE_CONV_LONG_FILTER_MIXER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "attention/mixer.h"

namespace mneme {

// Takes the option taps. InvalidArgument without a longest sequence.
absl::StatusOr<std::unique_ptr<Mixer>> MakeLongFilterMixer(
    const MixerConfig& config);

}  // namespace mneme

#endif  // MNEME_ATTENTION_BASE_CONV_LONG_FILTER_MIXER_H_
