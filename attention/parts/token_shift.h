// SPDX-License-Identifier: Apache-2.0
//
// Token shift: what the RWKV family has in place of a short convolution. Every
// projection reads a mixture of a token's input and that of the token before.

#ifndef MNEME_ATTENTION_PARTS_TOKEN_SHIFT_H_
#define MNEME_ATTENTION_PARTS_TOKEN_SHIFT_H_

#include <cstdint>
#include <memory>

#include "attention/state.h"
#include "attention/tensor/tape.h"

namespace mneme {

// The last input of each sequence, [batch, channels].
std::unique_ptr<State> NewTokenShiftState(int64_t batch, int64_t channels,
                                          DType dtype);

// x_{t-1} - x_t for x [batch, length, channels]: x + mu * this is x_t for
// mu = 0 and x_{t-1} for mu = 1. The input before the first is state's, which
// is advanced, or zero for null. With a state nothing is differentiable.
Variable TokenShiftDifference(Variable x, State* state);

// x + mu * (x_{t-1} - x_t) in one pass, for a mixture mu [channels] that does
// not depend on the token. The input before the first is state's, which is left
// as it is, as several mixtures read it, or zero for null. With a state nothing
// is differentiable.
Variable TokenShift(Variable x, Variable mu, const State* state);

// After the last mixture of x: makes its last token the state's. Null is fine.
void AdvanceTokenShift(Variable x, State* state);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_TOKEN_SHIFT_H_
