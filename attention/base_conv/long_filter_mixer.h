// SPDX-License-Identifier: Apache-2.0
//
// BaseConv as in Zoology's own models (arXiv 2312.04927, section 5 and figure
// 2): of the normalised input u,
//
//   y_t = (sum_j h_j u_{t-j} + e_t) * (W u_t + b) + u_t   (channel by channel).
//
// In the first, third, ... layer the filter h is short, and e is a bias. In the
// others it is as long as the sequence and a function of the position,
//
//   h_j = W_2 relu(W_1 (j / (L - 1), cos p, -sin p) + b_1) + b_2,
//   p = 1e-4 * 2 pi j / L,   with sixteen hidden numbers,
//
// and e_t = u_t: that convolution skips itself, too.
//
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
