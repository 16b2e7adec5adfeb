// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a trained model beyond the length it was trained at, as Vega
// specifications of one template; see charts.h. A line for each row.

#ifndef MNEME_REPORTS_PAGE_LENGTH_CHARTS_H_
#define MNEME_REPORTS_PAGE_LENGTH_CHARTS_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "reports/boards.h"
#include "reports/length_results.h"

namespace mneme {

// Test accuracy against the length of the sequence, over the scores of
// guessing. There are at least two lengths.
std::string LengthChartSpec(const Board& board,
                            absl::Span<const RowLengths> rows);

// Bits per token against the position in the longest sequences of each row that
// were tested.
std::string PositionChartSpec(const Board& board,
                              absl::Span<const RowLengths> rows);

// The losses by position that the chart shows of a row.
const LengthPoint* LongestWithPositions(const RowLengths& row);

// Whether every position is scored, and there are enough to tell a loss that
// falls with more context.
bool HasPositions(absl::Span<const RowLengths> rows);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_LENGTH_CHARTS_H_
