// SPDX-License-Identifier: Apache-2.0
//
// What the solutions of a problem have to be.

#ifndef MNEME_HARNESS_THROUGHPUT_ORACLE_H_
#define MNEME_HARNESS_THROUGHPUT_ORACLE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "harness/throughput/contender.h"

namespace mneme {

// In float64; Phase::kTrain has none. Everything is computed when it is first
// asked for, and kept: those who solve the same problem share it. Results are
// in the order of Workload::Outputs, and valid as long as the oracle. Not
// thread-safe.
class Oracle {
 public:
  using Results = std::vector<Tensor>;

  // The problem outlives the oracle.
  explicit Oracle(const Problem& problem);

  const Problem& problem() const { return problem_; }

  // Shortened(problem()), and what it has to give: the output of the operator's
  // Reference, or the operator's own gradients, once they are known to be the
  // derivatives in random directions of <Reference, d_output> by central
  // differences. FailedPrecondition if they are not.
  const Problem& shortened();
  const absl::StatusOr<Results>& ResultsOfShortened();

  // What the operator itself makes of problem() in WholeForm(), which there
  // must be.
  const absl::StatusOr<Results>& ResultsOfWhole();

  // What it keeps by now, beside a few tokens' worth.
  int64_t Bytes() const;

  // Not the form in which Mneme's own workloads compute it, as what a form gets
  // wrong in float32 it may get wrong in float64: token by token what they do
  // in blocks or at once, in blocks what they do so; of gradients, at once what
  // they do otherwise, as all states in between may be kept. Decoding reads the
  // context in blocks and then takes a token: at once, or else in blocks, so
  // that at least the token is not held to itself. The problem's own where that
  // would take float64 more than seconds, or a gigabyte; none where the
  // problem's does as well. An operator whose Backward, say, is the same in all
  // forms is held to that one.
  absl::optional<Form> WholeForm() const;

 private:
  const Problem& problem_;
  absl::optional<Problem> shortened_;
  absl::optional<absl::StatusOr<Results>> of_shortened_, of_whole_;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_ORACLE_H_
