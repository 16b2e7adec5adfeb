// SPDX-License-Identifier: Apache-2.0
//
// What the page's template needs to know of one board.

#ifndef MNEME_REPORTS_PAGE_BOARD_SECTION_H_
#define MNEME_REPORTS_PAGE_BOARD_SECTION_H_

#include <string>

#include "reports/boards.h"
#include "reports/page/view.h"

namespace mneme {

// An element of `boards` in page.mustache.
ViewData BoardSection(const Leaderboard& leaderboard, const Board& board);

// "quick, seeds 0–4, short_conv=false": what is said after a task's name.
std::string BoardAside(const Board& board);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_BOARD_SECTION_H_
