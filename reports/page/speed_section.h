// SPDX-License-Identifier: Apache-2.0
//
// What the page's template takes for how fast variants are.

#ifndef MNEME_REPORTS_PAGE_SPEED_SECTION_H_
#define MNEME_REPORTS_PAGE_SPEED_SECTION_H_

#include "reports/boards.h"
#include "reports/page/view.h"

namespace mneme {

// False where nothing was measured.
ViewData SpeedSection(const Leaderboard& leaderboard);

// What accuracy on one board costs in time; false where no row was timed.
ViewData AccuracySpeedFigure(const Leaderboard& leaderboard,
                             const Board& board);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_SPEED_SECTION_H_
