// SPDX-License-Identifier: Apache-2.0
//
// The rankings as plain text for a terminal. On a narrow one the less
// important columns are left out; what is left out is on the page.

#ifndef MNEME_REPORTS_TABLE_H_
#define MNEME_REPORTS_TABLE_H_

#include <string>

#include "harness/terminal.h"
#include "reports/boards.h"

namespace mneme {

// One table for each board, each followed by the scores of guessing, and by
// what a reader must know of mixed or replaced cells. Last, if it was measured,
// how fast variants are. ASCII but for names.
std::string RenderTable(const Leaderboard& leaderboard,
                        const TerminalStyle& style);

}  // namespace mneme

#endif  // MNEME_REPORTS_TABLE_H_
