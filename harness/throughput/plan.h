// SPDX-License-Identifier: Apache-2.0
//
// Which measurements are taken of one variant, and which of them together.

#ifndef MNEME_HARNESS_THROUGHPUT_PLAN_H_
#define MNEME_HARNESS_THROUGHPUT_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/phase.h"
#include "harness/throughput/shape.h"

namespace mneme {

// What somebody asked for.
struct Selection {
  std::vector<Phase> phases = {Phase::kPrefill, Phase::kDecode,
                               Phase::kBackward, Phase::kTrain};
  std::vector<ThroughputShape> shapes;  // none: each phase's own
  std::vector<int> threads = {1};
  std::vector<std::string> contenders;  // by name; none: all
  // A regular expression on "variant/phase/shape/threads/contender", or, after
  // a '-', of what is not wanted; empty: everything.
  std::string filter;
};

// The phases of one shape, timed interleaved so that they can be compared.
struct PlannedGroup {
  struct PlannedPhase {
    Phase phase;
    std::vector<const Contender*> contenders;  // at least one
  };

  ThroughputShape shape;
  int threads = 1;
  std::vector<PlannedPhase> phases;  // at least one, each once
};

// In the order asked for; what is asked for twice is planned once.
// InvalidArgument for a filter that is no regular expression.
absl::StatusOr<std::vector<PlannedGroup>> PlanOf(const Selection& selection,
                                                 absl::string_view variant);

// "softmax/prefill/1x2048x8x64/1/mneme".
std::string MeasurementName(absl::string_view variant,
                            const PlannedGroup& group,
                            const Contender& contender);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_PLAN_H_
