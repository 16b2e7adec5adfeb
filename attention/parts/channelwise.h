// SPDX-License-Identifier: Apache-2.0
//
// Gains and biases that belong to channels.

#ifndef MNEME_ATTENTION_PARTS_CHANNELWISE_H_
#define MNEME_ATTENTION_PARTS_CHANNELWISE_H_

#include "attention/tensor/tape.h"

namespace mneme {

// x * gain + bias for x [batch, length, channels], gain [1, channels] and bias
// [channels] or null.
Variable Channelwise(Variable x, const Parameter& gain, const Parameter* bias);

// Group normalisation (arXiv 1803.08494) with a group a head: every head of o
// [batch, length, heads, dim] to mean 0 and variance 1, then a gain [1, heads *
// dim] and a bias [heads * dim] for each channel -> [batch, length, heads *
// dim]. eps is added to the variance.
Variable HeadNorm(Variable o, const Parameter& gain, const Parameter& bias,
                  double eps);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_CHANNELWISE_H_
