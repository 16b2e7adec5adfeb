// SPDX-License-Identifier: Apache-2.0

#include "reports/page/charts.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "reports/format.h"
#include "reports/page/assets.h"
#include "reports/page/chart_parts.h"
#include "reports/page/series.h"

namespace mneme {
namespace {

using Json = ChartJson;

constexpr size_t kLettersOfGuessing = 12;  // "chance 0.1234", in small print

// The line of one memory, and where its name stands: right below where it has
// come half the way, or in a corner if it has before the chart begins.
void AddReference(absl::Span<const ReferencePoint> references,
                  const std::string& memory, double low, double high,
                  Json& lines, Json& names) {
  const auto score = [&memory](const ReferencePoint& point) {
    return memory == "table" ? point.table() : point.window();
  };
  const double half =
      (score(references.front()) + score(references.back())) / 2;
  bool named = false;
  const auto add = [&](double bytes, double accuracy) {
    lines.push_back(
        {{"memory", memory}, {"bytes", bytes}, {"accuracy", accuracy}});
  };
  const std::string label = absl::StrCat(memory, " of as many bytes");
  for (const ReferencePoint& point : references) {
    const auto bytes = static_cast<double>(point.bytes());
    add(bytes, score(point));
    if (named || bytes < low || bytes > high || score(point) < half) continue;
    named = true;
    const bool right = std::log2(bytes / low) > std::log2(high / low) / 2;
    names.push_back({{"bytes", bytes},
                     {"accuracy", score(point)},
                     {"label", label},
                     {"align", right ? "right" : "left"},
                     {"dx", right ? -6 : 6},
                     {"dy", right ? -4 : 14}});
  }
  // More bytes find no more.
  const double last = static_cast<double>(references.back().bytes());
  if (high > last) add(high, score(references.back()));
  if (named) return;
  const bool before = last < low;
  names.push_back({{"bytes", before ? low : high},
                   {"accuracy", before ? score(references.back())
                                       : score(references.front())},
                   {"label", label},
                   {"align", before ? "left" : "right"},
                   {"dx", before ? 6 : -6},
                   {"dy", memory == "table" ? 14 : 28}});
}

// The last point of each variant's first finished cell: where its name is led
// to from.
Json CurveEnds(const Leaderboard& leaderboard, const Board& board) {
  Json ends = Json::array();
  for (const Row& row : board.rows) {
    for (const size_t index : row.cells) {
      const ResultRecord& cell = leaderboard.cells[index];
      if (cell.status() != STATUS_OK || cell.metrics().curve().empty()) {
        continue;
      }
      const CurvePoint& end = *cell.metrics().curve().rbegin();
      ends.push_back({{"variant", row.variant},
                      {"color", SeriesColor(row.variant_index)},
                      {"step", end.step()},
                      {"accuracy", end.validation_accuracy()}});
      break;
    }
  }
  return ends;
}

}  // namespace

Json Floors(const Board& board) {
  Json floors = Json::array();
  if (!board.chance_accuracy.has_value()) return floors;
  const double chance = *board.chance_accuracy;
  const double context = *board.context_guess_accuracy;
  if (context > chance) {
    floors.push_back({{"accuracy", context},
                      {"label", absl::StrCat("1/K ", FormatScore(context))}});
  }
  floors.push_back({{"accuracy", chance},
                    {"label", absl::StrCat("chance ", FormatScore(chance))}});
  return floors;
}

bool HasLearningCurves(const Leaderboard& leaderboard, const Board& board) {
  return !CurveEnds(leaderboard, board).empty();
}

bool HasStates(const Board& board) {
  return std::any_of(board.rows.begin(), board.rows.end(), [](const Row& row) {
    return row.complete() && row.state_bytes.value_or(0) > 0;
  });
}

std::string LearningCurveSpec(const Leaderboard& leaderboard,
                              const Board& board) {
  Json curves = Json::array();
  int64_t last_step = 1;
  size_t letters = kLettersOfGuessing;
  std::vector<std::string> names;
  for (const Row& row : board.rows) {
    const size_t points_before = curves.size();
    for (const size_t index : row.cells) {
      const ResultRecord& cell = leaderboard.cells[index];
      if (cell.status() != STATUS_OK) continue;
      for (const CurvePoint& point : cell.metrics().curve()) {
        last_step = std::max(last_step, point.step());
        curves.push_back({{"variant", row.variant},
                          {"seed", cell.seed()},
                          {"color", SeriesColor(row.variant_index)},
                          {"marker", SeriesMarker(row.variant_index)},
                          {"step", point.step()},
                          {"accuracy", point.validation_accuracy()}});
      }
    }
    if (curves.size() > points_before) {
      names.push_back(row.variant);
      letters = std::max(letters, row.variant.size());
    }
  }
  Json spec = Json::parse(LearningCurveTemplate());
  spec["description"] = absl::StrCat(
      "Line chart of validation accuracy, from 0 to 1, against optimiser "
      "steps, up to ",
      FormatCount(static_cast<double>(last_step)), ", on ", board.task, " for ",
      NameList(names), ".");
  Named(spec["data"], "curves")["values"] = std::move(curves);
  Json ends = CurveEnds(leaderboard, board);
  Json floors = Floors(board);
  const double height = HeightForNames(ends.size() + floors.size());
  PlaceNames({&ends, &floors}, height, [](const Json& entry) {
    return entry.at("accuracy").get<double>();
  });
  spec["height"] = height;
  Named(spec["data"], "ends")["values"] = std::move(ends);
  Named(spec["data"], "floors")["values"] = std::move(floors);
  Named(spec["scales"], "x")["domain"] = {0, last_step};
  Named(spec["signals"], "one_seed")["value"] = board.seeds.size() == 1;
  Named(spec["signals"], "names")["value"] = NamesWidth(letters);
  return Dump(spec);
}

std::string StateChartSpec(const Board& board,
                           absl::Span<const ReferencePoint> references) {
  Json points = Json::array();
  int64_t smallest = INT64_MAX, largest = 1;
  std::vector<std::string> names;
  for (const Row& row : board.rows) {
    const int64_t bytes = row.state_bytes.value_or(0);
    if (!row.complete() || bytes <= 0) continue;
    smallest = std::min(smallest, bytes);
    largest = std::max(largest, bytes);
    names.push_back(row.variant);
    points.push_back({{"variant", row.variant},
                      {"color", SeriesColor(row.variant_index)},
                      {"marker", SeriesMarker(row.variant_index)},
                      {"state_bytes", bytes},
                      {"accuracy", row.accuracy->mean},
                      {"low", row.accuracy->low},
                      {"high", row.accuracy->high}});
  }
  Json spec = Json::parse(StateChartTemplate());
  spec["height"] = kPlotHeight;
  spec["description"] = absl::StrCat(
      "Scatter plot of test accuracy, from 0 to 1, against bytes of state on a "
      "logarithmic scale on ",
      board.task, " for ", NameList(names),
      references.empty()
          ? "."
          : ", with lines for a window and a table of as many bytes.");
  Named(spec["data"], "points")["values"] = std::move(points);
  Named(spec["data"], "floors")["values"] = Floors(board);
  // Whole powers of two with room beside the outermost points.
  const double low =
      std::exp2(std::floor(std::log2(static_cast<double>(smallest)) - 0.5));
  const double high =
      std::exp2(std::ceil(std::log2(static_cast<double>(largest)) + 0.5));
  Named(spec["scales"], "x")["domain"] = {low, high};
  spec["axes"][0]["values"] = PowerTicks(low, high);
  if (!references.empty()) {
    Json& lines = Named(spec["data"], "references")["values"];
    Json& labels = Named(spec["data"], "reference_ends")["values"];
    AddReference(references, "window", low, high, lines, labels);
    AddReference(references, "table", low, high, lines, labels);
  }
  return Dump(spec);
}

}  // namespace mneme
