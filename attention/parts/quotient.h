// SPDX-License-Identifier: Apache-2.0
//
// The gradient of dividing a recurrence's numerators by its normaliser,
// o = num / (den + eps).

#ifndef MNEME_ATTENTION_PARTS_QUOTIENT_H_
#define MNEME_ATTENTION_PARTS_QUOTIENT_H_

#include "attention/tensor/tensor.h"

namespace mneme {

struct QuotientGradient {
  Tensor d_numerator;    // [batch, length, heads, dim]: d_o / (den + eps)
  Tensor d_denominator;  // [batch, heads, length]: -(d_o . o) / (den + eps)
};

// output [batch, length, heads, dim] is the quotient, denominator [batch,
// heads, length]. The results live in the arena.
QuotientGradient DivideByDenominatorBackward(const Tensor& output,
                                             const Tensor& denominator,
                                             const Tensor& d_output, double eps,
                                             Arena* arena);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_QUOTIENT_H_
