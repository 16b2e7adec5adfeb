// SPDX-License-Identifier: Apache-2.0
//
// Dividing a recurrence's numerators by its normaliser: o = num / (den + eps),
// and the gradient of that.

#ifndef MNEME_ATTENTION_PARTS_QUOTIENT_H_
#define MNEME_ATTENTION_PARTS_QUOTIENT_H_

#include "attention/tensor/tensor.h"

namespace mneme {

// output [batch, length, heads, dim] /= denominator [batch, heads, length] +
// eps, in place.
void DivideByDenominator(const Tensor& output, const Tensor& denominator,
                         double eps);

struct QuotientGradient {
  Tensor d_numerator;    // [batch, length, heads, dim]: d_o / (den + eps)
  Tensor d_denominator;  // [batch, heads, length]: -(d_o . o) / (den + eps)
};

// output is the quotient. The results live in the arena.
QuotientGradient DivideByDenominatorBackward(const Tensor& output,
                                             const Tensor& denominator,
                                             const Tensor& d_output, double eps,
                                             Arena* arena);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_QUOTIENT_H_
