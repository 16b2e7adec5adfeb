// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/phase.h"

#include <string>
#include <vector>

#include "attention/plugin/suggest.h"

namespace mneme {
namespace {

constexpr Phase kPhases[] = {Phase::kPrefill, Phase::kDecode, Phase::kBackward,
                             Phase::kTrain};

}  // namespace

absl::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kPrefill:
      return "prefill";
    case Phase::kDecode:
      return "decode";
    case Phase::kBackward:
      return "backward";
    case Phase::kTrain:
      return "train";
  }
  return "?";
}

absl::StatusOr<Phase> ParsePhase(absl::string_view name) {
  std::vector<std::string> known;
  for (Phase phase : kPhases) {
    if (PhaseName(phase) == name) return phase;
    known.emplace_back(PhaseName(phase));
  }
  return UnknownName("phase", name, known);
}

}  // namespace mneme
