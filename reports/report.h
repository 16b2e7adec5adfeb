// SPDX-License-Identifier: Apache-2.0
//
// A leaderboard as the files of a directory.

#ifndef MNEME_REPORTS_REPORT_H_
#define MNEME_REPORTS_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "reports/boards.h"

namespace mneme {

inline constexpr char kPageName[] = "index.html";

// Writes leaderboard.json, .csv and .md, lengths.csv, probes.csv, speed.csv and
// last, as it links to them, the page. Each file is replaced as a whole.
absl::Status WriteReport(const Leaderboard& leaderboard,
                         const std::string& directory);

}  // namespace mneme

#endif  // MNEME_REPORTS_REPORT_H_
