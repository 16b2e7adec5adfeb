// SPDX-License-Identifier: Apache-2.0
//
// The command line of //reports:leaderboard.

#ifndef MNEME_REPORTS_LEADERBOARD_FLAGS_H_
#define MNEME_REPORTS_LEADERBOARD_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "reports/cell_build.h"

namespace mneme {

struct LeaderboardFlags {
  CellSelection selection;  // names not yet checked
  // As typed; when not empty, nothing of the selection counts but whether
  // probes are wanted.
  std::vector<std::string> records;
  std::vector<std::string> throughput;  // as typed
  std::string out;                      // as typed, or ""
  bool json = false;
  bool no_color = false;
  // Not empty when help was asked for: then print it, and do nothing else.
  std::string help;
};

// InvalidArgument, in one line that names the flag, for an unknown flag (with
// the nearest known one), a bad value, or flags that exclude one another.
absl::StatusOr<LeaderboardFlags> ParseLeaderboardFlags(int argc,
                                                       const char* const* argv);

}  // namespace mneme

#endif  // MNEME_REPORTS_LEADERBOARD_FLAGS_H_
