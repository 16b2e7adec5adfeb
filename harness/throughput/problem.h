// SPDX-License-Identifier: Apache-2.0
//
// Problems with made-up data, and what Mneme's own operators make of them.

#ifndef MNEME_HARNESS_THROUGHPUT_PROBLEM_H_
#define MNEME_HARNESS_THROUGHPUT_PROBLEM_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/shape.h"

namespace mneme {

// A problem of the given sizes. Inputs are drawn at random in their domains for
// up to kDrawnTokens tokens, which then repeat: drawing a million would take
// longer than the mechanisms do. op may be null in Phase::kTrain alone, and
// outlives the problem.
inline constexpr int64_t kDrawnTokens = 4096;
Problem MakeProblem(Phase phase, const Variant& variant, const Options& options,
                    const Operator* op, Form form, const ThroughputShape& shape,
                    kernels::ThreadPool* pool);

// The same problem cut down to what the oracle, with a loop for every sum, does
// in a moment: one sequence, its first tokens, all heads and widths. Made anew
// where an input has no tokens to cut, or an axis that depends on the length.
inline constexpr int64_t kCheckedTokens = 193;
Problem Shortened(const Problem& problem);

// A call of the problem's operator, in its form and with its threads, on inputs
// that outlive it.
OperatorCall CallOn(const Problem& problem, const std::vector<Tensor>& inputs);

// Tokens that are decoded before the context is made short again: 1/64 of it.
int64_t DecodedTokens(int64_t context);

// Whether the first outputs of a problem are those of Shortened(problem).
bool StartsAlike(const Problem& problem);

// The first tokens of [batch, length, ...], of the first sequence.
Tensor FirstTokens(const Tensor& x, int64_t tokens);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_PROBLEM_H_
