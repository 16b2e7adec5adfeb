// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/problem_cost.h"

#include <cstdint>

#include "harness/throughput/problem.h"

namespace mneme {
namespace {

Ceiling ProductsOf(const Contender& contender, const Problem& problem,
                   const Ceilings& ceilings) {
  if (contender.name != kOwnContender || problem.phase != Phase::kPrefill ||
      !problem.op->MultipliesBf16()) {
    return Ceiling::kMultiplyAdd;
  }
  for (const Ceiling unit : {Ceiling::kAmx, Ceiling::kBf16}) {
    if (ceilings.Rate(unit) > 0) return unit;
  }
  return Ceiling::kMultiplyAdd;
}

// All but decoding from a cache of what was said writes about as much as it
// reads, or at least some of it.
Traffic TrafficOf(const Problem& problem) {
  return problem.phase == Phase::kDecode && !problem.op->StepRewritesState()
             ? Traffic::kReads
             : Traffic::kReadWrite;
}

// Of the tokens that are decoded before the state is as it was at first: one of
// log-linear attention that follows a power of two others has the least to do.
Cost MeanStepCost(const Problem& problem) {
  // Of many, some: where blocks are drawn, counting takes a while. An odd step,
  // so that these are not all at the beginning of a block.
  constexpr int64_t kMostSteps = 64;
  const int64_t tokens = DecodedTokens(problem.dims.length);
  const int64_t step = tokens / kMostSteps | 1;
  Cost sum;
  double steps = 0;
  for (int64_t i = 0; i < tokens; i += step, ++steps) {
    Dims dims = problem.dims;
    dims.length += i;
    const Cost cost = problem.op->StepCost(dims);
    sum.flops += cost.flops;
    sum.exps += cost.exps;
    sum.bytes += cost.bytes;
  }
  return {sum.flops / steps, sum.exps / steps, sum.bytes / steps};
}

}  // namespace

double WorkingSet(const Problem& problem) {
  double bytes = 0;
  for (const Tensor& x : problem.inputs) bytes += x.bytes();
  const Dims& d = problem.dims;
  const double output = sizeof(float) *
                        static_cast<double>(d.batch * d.length * d.heads) *
                        static_cast<double>(d.value_dim);
  switch (problem.phase) {
    case Phase::kDecode:
      return static_cast<double>(problem.op->StateBytes(d));
    case Phase::kBackward:
      return 2 * (bytes + output);
    default:
      return bytes + output;
  }
}

Cost CostOf(const Problem& problem) {
  switch (problem.phase) {
    case Phase::kPrefill:
      return problem.op->ForwardCost(problem.dims, problem.form);
    case Phase::kDecode:
      return MeanStepCost(problem);
    case Phase::kBackward:
      return problem.op->BackwardCost(problem.dims, problem.form);
    case Phase::kTrain:
      break;
  }
  return {};
}

absl::StatusOr<Limit> LimitOf(const Contender& contender,
                              const Problem& problem,
                              const Ceilings& ceilings) {
  return LimitOf(CostOf(problem), WorkingSet(problem), ceilings,
                 TrafficOf(problem), ProductsOf(contender, problem, ceilings));
}

double TokensOf(const Problem& problem) {
  const double batch = static_cast<double>(problem.dims.batch);
  return problem.phase == Phase::kDecode
             ? batch
             : batch * static_cast<double>(problem.dims.length);
}

}  // namespace mneme
