// SPDX-License-Identifier: Apache-2.0
//
// Projections of low rank, from which layers make gates and decays that depend
// on the token at little cost.

#ifndef MNEME_ATTENTION_PARTS_LOW_RANK_H_
#define MNEME_ATTENTION_PARTS_LOW_RANK_H_

#include "absl/types/optional.h"
#include "attention/kernels/vector_math.h"
#include "attention/tensor/tape.h"

namespace mneme {

// x [..., in] -> f(x down) up + bias [..., out].
struct LowRank {
  const Parameter* down = nullptr;            // [in, rank]
  const Parameter* up = nullptr;              // [rank, out]
  const Parameter* bias = nullptr;            // [out], or null
  absl::optional<kernels::Unary> activation;  // f; none: the identity

  Variable operator()(Variable x) const;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_LOW_RANK_H_
