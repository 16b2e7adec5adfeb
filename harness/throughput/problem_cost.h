// SPDX-License-Identifier: Apache-2.0
//
// What a problem costs at least, whoever solves it.

#ifndef MNEME_HARNESS_THROUGHPUT_PROBLEM_COST_H_
#define MNEME_HARNESS_THROUGHPUT_PROBLEM_COST_H_

#include "absl/status/statusor.h"
#include "harness/throughput/ceilings.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/limit.h"

namespace mneme {

// Bytes that a run touches, which decide the level of memory they live in.
// Not of Phase::kTrain, as the others.
double WorkingSet(const Problem& problem);

// The operator's own count; in decode the mean of the tokens that are decoded.
Cost CostOf(const Problem& problem);

// LimitOf (limit.h) with the unit that computes the products at best: Mneme's
// own in bfloat16 have one of their own, peers multiply float32.
absl::StatusOr<Limit> LimitOf(const Contender& contender,
                              const Problem& problem, const Ceilings& ceilings);

// Tokens that a solution gives: of decoding, one for each sequence.
double TokensOf(const Problem& problem);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_PROBLEM_COST_H_
