// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/low_rank.h"

#include "attention/tensor/ops.h"

namespace mneme {

Variable LowRank::operator()(Variable x) const {
  if (!x.valid()) return x;
  Tape* tape = x.tape();
  Variable inner = Linear(x, tape->Use(*down));
  if (activation.has_value()) inner = Map(*activation, inner);
  return Linear(inner, tape->Use(*up),
                bias == nullptr ? Variable() : tape->Use(*bias));
}

}  // namespace mneme
