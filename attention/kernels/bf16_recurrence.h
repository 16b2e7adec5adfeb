// SPDX-License-Identifier: Apache-2.0
//
// The forward of the additive recurrence with scalar decay
// (additive_recurrence.h) with matrix products on a Bf16Unit: for prompts, not
// for training. By chunks of 64 tokens, whatever chunk was asked for,
//
//   O = e^G Q S_in + (Q K^T * decay) V,   S_out = e^G_end S_in + (decay K)^T V.
//
// Inputs, weights and what is read of the state are rounded to Bf16 as operands
// of products; the state itself, all sums, decays and the normaliser are float.
// Each term of an output is off by at most about 1.6e-2 of its size (four
// roundings of 2^-8; three where inputs are numbers of Bf16).
//
// Single-threaded; safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_BF16_RECURRENCE_H_
#define MNEME_ATTENTION_KERNELS_BF16_RECURRENCE_H_

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// As AdditiveRecurrenceForward without `saved`, which it is, too, where there
// is no unit, for a few tokens, with elu_features, and for inputs that are not
// finite.
void Bf16AdditiveForward(const AdditiveRecurrence<float>& a, float* state,
                         MatrixView<float> o, float* den);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_BF16_RECURRENCE_H_
