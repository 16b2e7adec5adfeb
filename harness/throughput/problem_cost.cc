// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/problem_cost.h"

#include <algorithm>
#include <cstdint>
#include <vector>

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

// The sizes of what some of the tokens after the context follow. Of many, some:
// where blocks are drawn, counting takes a while. An odd step, so that these
// are not all at the beginning of a block.
std::vector<Dims> DecodedDims(const Problem& problem, int64_t tokens) {
  constexpr int64_t kMostSteps = 64;
  const int64_t step = (tokens + kMostSteps - 1) / kMostSteps | 1;
  std::vector<Dims> decoded;
  for (int64_t i = 0; i < tokens; i += step) {
    decoded.push_back(problem.dims);
    decoded.back().length += i;
  }
  return decoded;
}

Cost MeanStepCost(const Problem& problem, int64_t tokens) {
  const std::vector<Dims> decoded = DecodedDims(problem, tokens);
  const auto steps = static_cast<double>(decoded.size());
  Cost sum;
  for (const Dims& dims : decoded) {
    const Cost cost = problem.op->StepCost(dims);
    sum.flops += cost.flops;
    sum.exps += cost.exps;
    sum.bytes += cost.bytes;
  }
  return {sum.flops / steps, sum.exps / steps, sum.bytes / steps};
}

double MeanStateBytes(const Problem& problem, int64_t tokens) {
  const std::vector<Dims> decoded = DecodedDims(problem, tokens);
  double sum = 0;
  for (const Dims& dims : decoded) {
    sum += static_cast<double>(problem.op->StateBytes(dims));
  }
  return sum / static_cast<double>(decoded.size());
}

}  // namespace

int64_t TokensTimed(const Workload& workload, int64_t runs) {
  return std::max<int64_t>(1, std::min(workload.RunsBeforeRewind(), runs));
}

double WorkingSet(const Problem& problem, int64_t tokens) {
  double bytes = 0;
  for (const Tensor& x : problem.inputs) bytes += x.bytes();
  const Dims& d = problem.dims;
  const double output = sizeof(float) *
                        static_cast<double>(d.batch * d.length * d.heads) *
                        static_cast<double>(d.value_dim);
  switch (problem.phase) {
    case Phase::kDecode:
      return MeanStateBytes(problem, tokens);
    case Phase::kBackward:
      return 2 * (bytes + output);
    default:
      return bytes + output;
  }
}

Cost CostOf(const Problem& problem, int64_t tokens) {
  switch (problem.phase) {
    case Phase::kPrefill:
      return problem.op->ForwardCost(problem.dims, problem.form);
    case Phase::kDecode:
      return MeanStepCost(problem, tokens);
    case Phase::kBackward:
      return problem.op->BackwardCost(problem.dims, problem.form);
    case Phase::kTrain:
      break;
  }
  return {};
}

absl::StatusOr<Limit> LimitOf(const Contender& contender,
                              const Problem& problem, const Ceilings& ceilings,
                              int64_t tokens) {
  return LimitOf(CostOf(problem, tokens), WorkingSet(problem, tokens), ceilings,
                 TrafficOf(problem), ProductsOf(contender, problem, ceilings));
}

double TokensOf(const Problem& problem) {
  const double batch = static_cast<double>(problem.dims.batch);
  return problem.phase == Phase::kDecode
             ? batch
             : batch * static_cast<double>(problem.dims.length);
}

}  // namespace mneme
