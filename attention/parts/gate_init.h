// SPDX-License-Identifier: Apache-2.0
//
// Initial values of gates that papers draw from other distributions than
// weights.

#ifndef MNEME_ATTENTION_PARTS_GATE_INIT_H_
#define MNEME_ATTENTION_PARTS_GATE_INIT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "attention/tensor/parameter.h"

namespace mneme {

// A parameter [n] of f(u) for u uniform on [0, 1), without weight decay.
const Parameter* AddTransformed(const std::string& name, int64_t n,
                                const std::function<double(double)>& f,
                                ParameterSet* parameters);

// Biases b of a step size softplus(b + ...) that starts log-uniform on [1e-3,
// 0.1]: those of Mamba (arXiv 2312.00752) and its descendants.
const Parameter* AddStepBias(const std::string& name, int64_t n,
                             ParameterSet* parameters);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_GATE_INIT_H_
