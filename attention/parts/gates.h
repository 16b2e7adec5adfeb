// SPDX-License-Identifier: Apache-2.0
//
// Gates, each in one pass over memory. Shapes are equal.

#ifndef MNEME_ATTENTION_PARTS_GATES_H_
#define MNEME_ATTENTION_PARTS_GATES_H_

#include "attention/tensor/tape.h"

namespace mneme {

// factor * sigmoid(x), factor not 0.
Variable ScaledSigmoid(Variable x, double factor);

// from + (to - from) * gate.
Variable Interpolate(Variable from, Variable to, Variable gate);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_GATES_H_
