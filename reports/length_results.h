// SPDX-License-Identifier: Apache-2.0
//
// What a row's cells say of each length they were tested at: means over its
// seeds. Only of complete rows, as nothing is averaged over holes.

#ifndef MNEME_REPORTS_LENGTH_RESULTS_H_
#define MNEME_REPORTS_LENGTH_RESULTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "reports/boards.h"

namespace mneme {

// Records cut a sequence into 40 parts; so many are shown.
inline constexpr int kRecordedDepths = 40;
inline constexpr int kShownDepths = 10;

// An effective length is one at which so much is still right.
inline constexpr double kEffectiveAccuracy = 0.9;

// Answers that were said in one of the kShownDepths equal parts.
struct DepthCell {
  int64_t answers = 0;
  double right = 0;  // of them

  double accuracy() const { return right / static_cast<double>(answers); }
};

// Scored positions in [first, last).
struct PositionBits {
  int64_t first = 0, last = 0;
  int64_t answers = 0;
  double bits = 0;  // mean loss, log to the base 2
};

struct LengthPoint {
  int64_t length = 0;
  // Why some seed could not be tested; then there is nothing else.
  std::string unsupported;
  double accuracy = 0;
  double smallest = 0, largest = 0;  // over seeds
  absl::optional<double> bits;       // absent if some seed's loss is not finite
  bool streamed = false;             // read in pieces, with a state
  // What a window of as many bytes as the state scores; absent without a state.
  absl::optional<double> window;
  std::vector<DepthCell> depths;  // kShownDepths of them, or none
  std::vector<PositionBits> positions;
  std::vector<std::pair<std::string, double>> details;
};

// By rising length, of which the first is that of training. A length that not
// all seeds were tested at is left out. Empty for an incomplete row.
std::vector<LengthPoint> LengthsOf(const Leaderboard& leaderboard,
                                   const Row& row);

// The longest length up to which at every length that was tried the accuracy
// is at least kEffectiveAccuracy: 0 if at none.
int64_t EffectiveLength(absl::Span<const LengthPoint> points);

// "≥1,024" where no length was tried that is too long, "–" where all are.
std::string EffectiveLengthText(absl::Span<const LengthPoint> points);

// A row and its lengths.
struct RowLengths {
  const Row* row = nullptr;
  std::vector<LengthPoint> points;
};

// Of the board's rows that have any, in their order.
std::vector<RowLengths> LengthsOf(const Leaderboard& leaderboard,
                                  const Board& board);

// All lengths of the rows, rising.
std::vector<int64_t> AllLengths(absl::Span<const RowLengths> rows);

// The point of that length, or null.
const LengthPoint* PointAt(absl::Span<const LengthPoint> points,
                           int64_t length);

// What memories that need no training score, of the first finished cell that
// knows; empty if none does.
std::vector<ReferencePoint> ReferencesOf(const Leaderboard& leaderboard,
                                         const Board& board);

}  // namespace mneme

#endif  // MNEME_REPORTS_LENGTH_RESULTS_H_
