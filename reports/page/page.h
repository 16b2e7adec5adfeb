// SPDX-License-Identifier: Apache-2.0
//
// The leaderboard as one self-contained HTML file: it fetches nothing, works
// from a disk, and shows its tables to readers without JavaScript too. Anchors
// are #<task>.<variant>; a fragment with "=" is the state of filter and sort.
//
// Every text from a record is escaped by the template engine, and every chart
// specification is made harmless as the contents of a <script>: no name or
// message can add markup.

#ifndef MNEME_REPORTS_PAGE_PAGE_H_
#define MNEME_REPORTS_PAGE_PAGE_H_

#include <string>

#include "absl/status/statusor.h"
#include "reports/boards.h"

namespace mneme {

// Links to leaderboard.json, .csv and .md and probes.csv beside it. Internal
// when the template does not parse, which the tests rule out.
absl::StatusOr<std::string> RenderPage(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_PAGE_H_
