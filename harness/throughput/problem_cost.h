// SPDX-License-Identifier: Apache-2.0
//
// What a problem costs at least, whoever solves it.

#ifndef MNEME_HARNESS_THROUGHPUT_PROBLEM_COST_H_
#define MNEME_HARNESS_THROUGHPUT_PROBLEM_COST_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "harness/throughput/ceilings.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/limit.h"

namespace mneme {

// Tokens after the context that decoding took `runs` times in a row went
// through: one of log-linear attention that follows a power of two others has
// the least to do. 1 for workloads that always take the first. Not of other
// phases, where it does not matter.
int64_t TokensTimed(const Workload& workload, int64_t runs);

// Bytes that a run touches, which decide the level of memory they live in; in
// decode the mean of that many tokens after the context. Not of Phase::kTrain,
// as the others.
double WorkingSet(const Problem& problem, int64_t tokens = 1);

// The operator's own count; in decode the mean of the same tokens.
Cost CostOf(const Problem& problem, int64_t tokens = 1);

// LimitOf (limit.h) with the unit that computes the products at best: Mneme's
// own in bfloat16 have one of their own, peers multiply float32.
absl::StatusOr<Limit> LimitOf(const Contender& contender,
                              const Problem& problem, const Ceilings& ceilings,
                              int64_t tokens = 1);

// Tokens that a solution gives: of decoding, one for each sequence.
double TokensOf(const Problem& problem);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_PROBLEM_COST_H_
