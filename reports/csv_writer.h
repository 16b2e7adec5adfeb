// SPDX-License-Identifier: Apache-2.0
//
// leaderboard.csv, for spreadsheets: a line of names, then one line a cell,
// quoted by RFC 4180 with \n ends. What a cell did not measure is empty.
//
// probes.csv, likewise, with a line for each point of each curve, and one for
// each probe without any. `size` is the number of pairs, or the size of `knob`;
// pairs_at_90 and state_bytes are of the whole curve, and stand on each of its
// lines.

#ifndef MNEME_REPORTS_CSV_WRITER_H_
#define MNEME_REPORTS_CSV_WRITER_H_

#include <string>

#include "reports/boards.h"

namespace mneme {

std::string RenderCsv(const Leaderboard& leaderboard);
std::string RenderProbesCsv(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_CSV_WRITER_H_
