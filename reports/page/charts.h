// SPDX-License-Identifier: Apache-2.0
//
// The two charts of a board, as Vega specifications (vega.github.io/vega/docs)
// of which the page's script draws SVG.
//
// A specification leaves to the script what depends on the reader: the signals
// `ink`, `muted`, `rule`, `paper` and `colors` are the page's colours, `width`
// the room there is, `focus` the variant pointed at, and `hidden` the variants
// that are filtered out.

#ifndef MNEME_REPORTS_PAGE_CHARTS_H_
#define MNEME_REPORTS_PAGE_CHARTS_H_

#include <string>

#include "absl/types/span.h"
#include "reports/boards.h"
#include "reports/page/chart_parts.h"

namespace mneme {

// Validation accuracy against optimiser steps: one line for each finished cell,
// named at its right end, over the scores of guessing.
std::string LearningCurveSpec(const Leaderboard& leaderboard,
                              const Board& board);

// Test accuracy with its interval against bytes of state, on a logarithmic
// scale: one point for each complete row that has a state, and beside them what
// memories that need no training score with as many bytes, by rising bytes.
std::string StateChartSpec(const Board& board,
                           absl::Span<const ReferencePoint> references = {});

// The scores of guessing, {"accuracy", "label"} each, as lines to draw across a
// chart. Where both are the same there is a single one.
ChartJson Floors(const Board& board);

// Whether the chart would show anything.
bool HasLearningCurves(const Leaderboard& leaderboard, const Board& board);
bool HasStates(const Board& board);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_CHARTS_H_
