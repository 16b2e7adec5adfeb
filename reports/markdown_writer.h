// SPDX-License-Identifier: Apache-2.0
//
// leaderboard.md: the rankings as tables to paste into an issue or a README.

#ifndef MNEME_REPORTS_MARKDOWN_WRITER_H_
#define MNEME_REPORTS_MARKDOWN_WRITER_H_

#include <string>

#include "reports/boards.h"

namespace mneme {

// GitHub-flavoured. Names and messages are escaped: they cannot end a table
// cell, start markup or become HTML.
std::string RenderMarkdown(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_MARKDOWN_WRITER_H_
