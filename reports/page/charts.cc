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

// The line of one memory, and where its name stands: beside the point of the
// chart that is nearest to half the way, below the line or above it.
void AddReference(absl::Span<const ReferencePoint> references,
                  const std::string& memory, double low, double high,
                  Json& line, Json& names) {
  const auto score = [&memory](const ReferencePoint& point) {
    return memory == "table" ? point.table() : point.window();
  };
  const double first = score(references.front());
  const double last = score(references.back());
  // Where none of its points is on the chart, what it comes from or goes to.
  const bool before = static_cast<double>(references.back().bytes()) < low;
  double named_bytes = before ? low : high, named = before ? last : first;
  double distance = 2;
  for (const ReferencePoint& point : references) {
    const auto bytes = static_cast<double>(point.bytes());
    line.push_back({{"bytes", bytes}, {"accuracy", score(point)}});
    const double from_half = std::abs(score(point) - (first + last) / 2);
    if (bytes < low || bytes > high || from_half >= distance) continue;
    distance = from_half;
    named_bytes = bytes;
    named = score(point);
  }
  // More bytes find no more.
  if (static_cast<double>(references.back().bytes()) < high) {
    line.push_back({{"bytes", high}, {"accuracy", last}});
  }
  const bool right = named_bytes * named_bytes > low * high;
  const bool above = right && named < 0.95;  // there the chart ends
  names.push_back({{"bytes", named_bytes},
                   {"accuracy", named},
                   {"label", absl::StrCat(memory, " of as many bytes")},
                   {"align", right ? "right" : "left"},
                   {"dx", right ? -6 : 6},
                   {"dy", above ? -6 : 14}});
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
  // Above its line and, where two lines are too close, above the other's text.
  constexpr double kTextHeight = 0.06;  // of the axis
  constexpr int kAbove = -4, kFurtherAbove = -16;
  if (context > chance) {
    floors.push_back(
        {{"accuracy", context},
         {"dy", context - chance < kTextHeight ? kFurtherAbove : kAbove},
         {"label", absl::StrCat("1/K ", FormatScore(context))}});
  }
  floors.push_back({{"accuracy", chance},
                    {"dy", kAbove},
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
    // Only then: around a mark without items Vega places no labels at all, and
    // neither does it lay out the rest.
    spec["marks"].back()["transform"][0]["avoidMarks"].push_back(
        "memory_names");
    Json& memory_names = Named(spec["data"], "memories")["values"];
    for (const char* memory : {"window", "table"}) {
      AddReference(references, memory, low, high,
                   Named(spec["data"], memory)["values"], memory_names);
    }
  }
  return Dump(spec);
}

}  // namespace mneme
