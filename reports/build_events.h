// SPDX-License-Identifier: Apache-2.0
//
// What a build of cells and probes came to, read from the Build Event Protocol
// (bazel.build/remote/bep), which Bazel writes as one JSON object a line with
// --build_event_json_file.

#ifndef MNEME_REPORTS_BUILD_EVENTS_H_
#define MNEME_REPORTS_BUILD_EVENTS_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace mneme {

// An action that failed.
struct FailedAction {
  std::string label;        // "//attention/linear:linear_runner"
  std::string mnemonic;     // "CppCompile", "MnemeCell"
  std::string output;       // its first, "bazel-out/.../mqar.linear.0.record"
  std::string stderr_path;  // "" when it said nothing
  int exit_code = 0;        // 128 + the signal that ended it
};

struct BuildOutcome {
  // Those of the targets that Bazel got as far as trying to build.
  std::set<std::string> attempted;
  // Output group, which is TASK.VARIANT.SEED or probe.VARIANT -> absolute path
  // of its record. Only those whose records are up to date.
  std::map<std::string, std::string> records;
  std::vector<FailedAction> failures;
};

// `labels` are targets as events spell them: "//reports:leaderboard_cells".
// DataLoss when a line is no JSON object.
absl::StatusOr<BuildOutcome> ParseBuildEvents(
    absl::string_view json_lines, absl::Span<const std::string> labels);

}  // namespace mneme

#endif  // MNEME_REPORTS_BUILD_EVENTS_H_
