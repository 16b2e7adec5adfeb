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

// A parameter [n], without weight decay, whose entries follow the distribution
// with the given quantile function on [0, 1), one from each of n slices of
// equal probability in rising order.
//
// Papers draw independently, and with the dozens of heads of their models some
// head remembers long. With two it would be luck: drawn so, both heads of
// Mamba-2's first layer fade to 1/e within 20 tokens for 6 of the seeds 0 to 9.
// Slices keep the distribution over all heads together and take the luck away;
// as steps and rates both rise with the head, the first head is the slowest in
// both, which independent draws would not make it.
//
// With groups > 1 (a divisor of n) each of that many consecutive parts has
// slices of its own.
const Parameter* AddStratified(const std::string& name, int64_t n,
                               const std::function<double(double)>& quantile,
                               ParameterSet* parameters, int64_t groups = 1);

// Biases b of a step size softplus(b + ...) that starts log-uniform on [1e-3,
// 0.1], in slices as above: those of Mamba (arXiv 2312.00752) and its
// descendants.
const Parameter* AddStepBias(const std::string& name, int64_t n,
                             ParameterSet* parameters, int64_t groups = 1);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_GATE_INIT_H_
