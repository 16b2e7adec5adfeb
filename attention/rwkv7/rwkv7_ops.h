// SPDX-License-Identifier: Apache-2.0
//
// Elementwise steps of RWKV-7's layer, each in one pass over memory. Arrays are
// [batch, length, heads, dim] or, the same, [batch, length, heads * dim].

#ifndef MNEME_ATTENTION_RWKV7_RWKV7_OPS_H_
#define MNEME_ATTENTION_RWKV7_RWKV7_OPS_H_

#include "attention/tensor/tape.h"

namespace mneme {

// k (1 + (eta - 1) weight), given -eta; weight [heads, dim].
Variable ReplacementKey(Variable k, Variable minus_eta, Variable weight);

// (o + (sum_d r k weight) v) gate, the sum over a head's dim; weight [heads,
// dim].
Variable GatedBonus(Variable o, Variable r, Variable k, Variable v,
                    Variable weight, Variable gate);

}  // namespace mneme

#endif  // MNEME_ATTENTION_RWKV7_RWKV7_OPS_H_
