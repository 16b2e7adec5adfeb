// SPDX-License-Identifier: Apache-2.0

#include "reports/report.h"

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "harness/atomic_file.h"
#include "reports/csv_writer.h"
#include "reports/json_writer.h"
#include "reports/lengths_csv.h"
#include "reports/markdown_writer.h"
#include "reports/page/page.h"
#include "reports/speed_csv.h"

namespace mneme {

absl::Status WriteReport(const Leaderboard& leaderboard,
                         const std::string& directory) {
  absl::StatusOr<std::string> page = RenderPage(leaderboard);
  if (!page.ok()) return page.status();
  const std::vector<std::pair<std::string, std::string>> files = {
      {"leaderboard.json", RenderJson(leaderboard)},
      {"leaderboard.csv", RenderCsv(leaderboard)},
      {"leaderboard.md", RenderMarkdown(leaderboard)},
      {"lengths.csv", RenderLengthsCsv(leaderboard)},
      {"probes.csv", RenderProbesCsv(leaderboard)},
      {"speed.csv", RenderSpeedCsv(leaderboard)},
      {kPageName, *std::move(page)},
  };
  for (const auto& [name, contents] : files) {
    if (absl::Status status =
            WriteFileAtomically(absl::StrCat(directory, "/", name), contents);
        !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace mneme
