// SPDX-License-Identifier: Apache-2.0
//
// speed.csv, for spreadsheets: a line of names, then one line for each
// measurement of how fast a variant is, quoted by RFC 4180 with \n ends. One
// that was not timed says why in `error`, and has no figures.

#ifndef MNEME_REPORTS_SPEED_CSV_H_
#define MNEME_REPORTS_SPEED_CSV_H_

#include <string>

#include "reports/boards.h"

namespace mneme {

std::string RenderSpeedCsv(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_SPEED_CSV_H_
