// SPDX-License-Identifier: Apache-2.0
//
// leaderboard.csv, for spreadsheets: a line of names, then one line a cell,
// quoted by RFC 4180 with \n ends. What a cell did not measure is empty.

#ifndef MNEME_REPORTS_CSV_WRITER_H_
#define MNEME_REPORTS_CSV_WRITER_H_

#include <string>

#include "reports/boards.h"

namespace mneme {

std::string RenderCsv(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_CSV_WRITER_H_
