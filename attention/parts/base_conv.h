// SPDX-License-Identifier: Apache-2.0
//
// The gated short convolution (BaseConv, arXiv 2312.04927, in the form that
// Based's models use, 2402.18668),
//
//   o_t = silu(sum_{j < taps} w_j x_{t-j}) * gate_t   (channel by channel):
//
// a mechanism of its own, and the layer between those of Based.
//
// The layer projects to expand / 2 times the width, twice (the paper's one
// matrix, split), and back; all projections have a bias. The state is the last
// taps - 1 inputs of the convolution.

#ifndef MNEME_ATTENTION_PARTS_BASE_CONV_H_
#define MNEME_ATTENTION_PARTS_BASE_CONV_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attention/mixer.h"
#include "attention/operator.h"

namespace mneme {

struct BaseConvLayout {
  int64_t taps = 3;    // 1 to 8
  int64_t expand = 4;  // width of both projections together, in model widths
  int64_t chunk = 64;  // tokens a block in the chunked form
};

// Inputs gate and v [batch, length, heads, value_dim], w [taps, heads,
// value_dim].
std::unique_ptr<Operator> NewBaseConvOperator(int64_t chunk);

// InvalidArgument, naming the variant, when heads do not fit.
absl::StatusOr<std::unique_ptr<Mixer>> MakeBaseConvMixer(
    const MixerConfig& config, absl::string_view variant,
    const BaseConvLayout& layout);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_BASE_CONV_H_
