// SPDX-License-Identifier: Apache-2.0
//
// What the page says of a board beyond one accuracy: by length, by depth, by
// position, and what else the task tells. Of each only what the records have.

#ifndef MNEME_REPORTS_PAGE_LENGTH_SECTION_H_
#define MNEME_REPORTS_PAGE_LENGTH_SECTION_H_

#include "absl/types/span.h"
#include "reports/boards.h"
#include "reports/length_results.h"
#include "reports/page/view.h"

namespace mneme {

// The elements `lengths`, `positions` and `task_details` of a board in
// page.mustache; false where there is nothing to show. HeatMaps makes a fourth.
ViewData LengthTable(const Board& board, absl::Span<const RowLengths> rows);
ViewData PositionTable(const Board& board, absl::Span<const RowLengths> rows);
ViewData TaskDetails(absl::Span<const RowLengths> rows);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_LENGTH_SECTION_H_
