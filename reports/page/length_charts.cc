// SPDX-License-Identifier: Apache-2.0

#include "reports/page/length_charts.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "reports/format.h"
#include "reports/page/assets.h"
#include "reports/page/chart_parts.h"
#include "reports/page/charts.h"
#include "reports/page/series.h"

namespace mneme {
namespace {

using Json = ChartJson;

constexpr size_t kLettersOfGuessing = 12;  // "chance 0.1234", in small print

// Lines as they are collected, and what bounds them.
struct Lines {
  Json points = Json::array(), ends = Json::array();
  std::vector<std::string> names;
  size_t letters = 0;
  double low_x = INFINITY, high_x = 1, low_y = INFINITY, high_y = 0;

  // Points of one row, by rising x.
  void Add(const Row& row, absl::Span<const std::pair<int64_t, double>> line) {
    if (line.empty()) return;
    for (const auto& [x, y] : line) {
      points.push_back({{"variant", row.variant},
                        {"color", SeriesColor(row.variant_index)},
                        {"marker", SeriesMarker(row.variant_index)},
                        {"x", x},
                        {"y", std::round(y * 1e4) / 1e4}});
      low_x = std::min(low_x, static_cast<double>(x));
      high_x = std::max(high_x, static_cast<double>(x));
      low_y = std::min(low_y, y);
      high_y = std::max(high_y, y);
    }
    ends.push_back({{"variant", row.variant},
                    {"color", SeriesColor(row.variant_index)},
                    {"x", line.back().first},
                    {"y", line.back().second}});
    names.push_back(row.variant);
    letters = std::max(letters, row.variant.size());
  }
};

// Fills the template. y runs from 0 to `top`.
Json Filled(Lines lines, Json floors, int64_t trained, double top) {
  Json spec = Json::parse(LengthChartTemplate());
  const double height = HeightForNames(lines.ends.size() + floors.size());
  PlaceNames({&lines.ends, &floors}, height, [top](const Json& entry) {
    return entry.at("y").get<double>() / top;
  });
  spec["height"] = height;
  Named(spec["data"], "curves")["values"] = std::move(lines.points);
  Named(spec["data"], "ends")["values"] = std::move(lines.ends);
  Named(spec["data"], "floors")["values"] = std::move(floors);
  Named(spec["scales"], "x")["domain"] = {lines.low_x, lines.high_x};
  Named(spec["scales"], "y")["domain"] = {0, top};
  Named(spec["signals"], "names")["value"] = NamesWidth(lines.letters);
  Named(spec["signals"], "trained")["value"] = trained;
  return spec;
}

// Whether every position has as many answers as the others, but for the last
// part, which ends where the sequence does.
bool ScoresEveryPosition(absl::Span<const PositionBits> parts) {
  constexpr size_t kFewestParts = 4;
  // Questions that begin after what they ask for are another thing.
  if (parts.size() < kFewestParts || parts[0].first > 1) return false;
  const auto density = [&parts](size_t i) {
    return static_cast<double>(parts[i].answers) /
           static_cast<double>(parts[i].last - parts[i].first);
  };
  const double usual = density(parts.size() - 2);
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    if (parts[i].last != parts[i + 1].first) return false;
    if (density(i) < 0.5 * usual || density(i) > 2 * usual) return false;
  }
  return true;
}

}  // namespace

const LengthPoint* LongestWithPositions(const RowLengths& row) {
  for (auto point = row.points.rbegin(); point != row.points.rend(); ++point) {
    if (!point->positions.empty()) return &*point;
  }
  return nullptr;
}

bool HasPositions(absl::Span<const RowLengths> rows) {
  return std::any_of(rows.begin(), rows.end(), [](const RowLengths& row) {
    const LengthPoint* point = LongestWithPositions(row);
    return point != nullptr && ScoresEveryPosition(point->positions);
  });
}

std::string LengthChartSpec(const Board& board,
                            absl::Span<const RowLengths> rows) {
  Lines lines;
  lines.letters = kLettersOfGuessing;
  for (const RowLengths& row : rows) {
    std::vector<std::pair<int64_t, double>> line;
    for (const LengthPoint& point : row.points) {
      if (!point.unsupported.empty()) continue;
      line.emplace_back(point.length, point.accuracy);
    }
    lines.Add(*row.row, line);
  }
  Json floors = Floors(board);
  for (Json& floor : floors) floor["y"] = floor["accuracy"];
  const std::string names = NameList(lines.names);
  const double low = lines.low_x, high = lines.high_x;
  Json spec =
      Filled(std::move(lines), std::move(floors), AllLengths(rows)[0], 1);
  spec["description"] = absl::StrCat(
      "Line chart of test accuracy, from 0 to 1, against the length of the "
      "sequence, from ",
      FormatCount(low), " to ", FormatCount(high),
      " tokens on a logarithmic scale, on ", board.task, " for ", names, ".");
  spec["axes"][0]["title"] = "tokens in the sequence (logarithmic)";
  Json ticks = Json::array();
  for (const int64_t length : AllLengths(rows)) {
    ticks.push_back(length);
  }
  spec["axes"][0]["values"] = std::move(ticks);
  return Dump(spec);
}

std::string PositionChartSpec(const Board& board,
                              absl::Span<const RowLengths> rows) {
  Lines lines;
  for (const RowLengths& row : rows) {
    const LengthPoint* point = LongestWithPositions(row);
    if (point == nullptr) continue;
    std::vector<std::pair<int64_t, double>> line;
    for (const PositionBits& part : point->positions) {
      line.emplace_back(part.last, part.bits);
    }
    lines.Add(*row.row, line);
  }
  const std::string names = NameList(lines.names);
  const double low = lines.low_x, high = lines.high_x;
  // A whole number of bits, or half of one where there are few.
  const double step = lines.high_y > 2 ? 1 : 0.25;
  const double top =
      std::max(step, std::ceil(lines.high_y / step - 1e-9) * step);
  Json spec = Filled(std::move(lines), Json::array(), AllLengths(rows)[0], top);
  spec["description"] = absl::StrCat(
      "Line chart of the loss, in bits per token, against the "
      "position in the sequence, up to ",
      FormatCount(high), " on a logarithmic scale, on ", board.task, " for ",
      names, ".");
  spec["axes"][0]["title"] = "position, up to (logarithmic)";
  spec["axes"][0]["values"] = PowerTicks(low, high);
  Json ticks = Json::array();
  for (int i = 0; i <= 4; ++i) ticks.push_back(top * i / 4);
  spec["axes"][1]["values"] = std::move(ticks);
  return Dump(spec);
}

}  // namespace mneme
