// SPDX-License-Identifier: Apache-2.0
//
// What is timed of a mechanism.

#ifndef MNEME_HARNESS_THROUGHPUT_PHASE_H_
#define MNEME_HARNESS_THROUGHPUT_PHASE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mneme {

enum class Phase {
  kPrefill,   // the outputs of a whole sequence
  kDecode,    // one token, after a context of `length` others
  kBackward,  // all gradients, of a finished forward
  kTrain,     // optimiser steps of a model
};
absl::string_view PhaseName(Phase phase);
// InvalidArgument, with the known names, for another one.
absl::StatusOr<Phase> ParsePhase(absl::string_view name);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_PHASE_H_
