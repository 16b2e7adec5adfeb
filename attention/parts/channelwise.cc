// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/channelwise.h"

#include "attention/tensor/ops.h"

namespace mneme {

Variable Channelwise(Variable x, const Parameter& gain, const Parameter* bias) {
  if (!x.valid()) return x;
  Tape* tape = x.tape();
  // A convolution with one tap.
  return CausalConv(x, tape->Use(gain),
                    bias == nullptr ? Variable() : tape->Use(*bias));
}

Variable HeadNorm(Variable o, const Parameter& gain, const Parameter& bias,
                  double eps) {
  if (!o.valid()) return o;
  const Shape& s = o.shape();
  const Shape channels({s.dim(0), s.dim(1), s.dim(2) * s.dim(3)});
  return Channelwise(
      Reshape(Norm(kernels::NormKind::kLayer, o, {}, {}, eps), channels), gain,
      &bias);
}

}  // namespace mneme
