// SPDX-License-Identifier: Apache-2.0
//
// lengths.csv: one line for each number that was measured at a length, of each
// finished cell. What a number is says `measure`:
//
//   accuracy, accuracy_stderr, loss, state_bytes, seconds, peak_memory_bytes
//     of the whole length (state_bytes where it was read in pieces);
//   depth: accuracy of the answers said in [first, last), shares of the length;
//   position_loss: nats per scored position, of positions [first, last);
//   detail.NAME: the task's;
//   unsupported: has no value but a reason.
//
// References, scores of memories that need no training (measures window and
// table), have no length but bytes.

#ifndef MNEME_REPORTS_LENGTHS_CSV_H_
#define MNEME_REPORTS_LENGTHS_CSV_H_

#include <string>

#include "reports/boards.h"

namespace mneme {

std::string RenderLengthsCsv(const Leaderboard& leaderboard);

}  // namespace mneme

#endif  // MNEME_REPORTS_LENGTHS_CSV_H_
