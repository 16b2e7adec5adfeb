// SPDX-License-Identifier: Apache-2.0
//
// The charts of how fast variants are, as Vega specifications. See charts.h.

#ifndef MNEME_REPORTS_PAGE_SPEED_CHARTS_H_
#define MNEME_REPORTS_PAGE_SPEED_CHARTS_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "harness/throughput/phase.h"
#include "reports/boards.h"
#include "reports/speed_results.h"

namespace mneme {

// Tokens per second against the length of the context, both on logarithmic
// scales: one line for each variant. The signal `series` is the index of the
// one shown, which are not none.
std::string SpeedLengthChartSpec(absl::Span<const LengthSeries> series);

// A board's row whose mechanism was timed in one phase.
struct SpeedPoint {
  const Row* row;
  double tokens_per_second;
};

// Accuracies beside the speeds of one phase.
struct AccuracySpeed {
  Phase phase;
  SpeedSetup setup;
  std::vector<SpeedPoint> points;  // not none; in the order of the rows
};

// For prefill, decode and training each, of complete rows; of throughput
// records with the same version and options of the variant alone.
std::vector<AccuracySpeed> AccuracySpeedsOf(const Leaderboard& leaderboard,
                                            const Board& board);

// Test accuracy with its interval against tokens per second, on a logarithmic
// scale. The signal `phase` is the index of the one shown.
std::string AccuracySpeedChartSpec(const Board& board,
                                   absl::Span<const AccuracySpeed> phases);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_SPEED_CHARTS_H_
