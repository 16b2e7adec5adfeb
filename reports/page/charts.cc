// SPDX-License-Identifier: Apache-2.0

#include "reports/page/charts.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "reports/format.h"
#include "reports/page/assets.h"
#include "reports/page/series.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

// Of the plots, in pixels, unless there are more names than fit.
constexpr double kPlotHeight = 300;
// Between the middles of two names, in pixels, and of a letter on average.
constexpr double kNameHeight = 15;
constexpr double kNameLetterWidth = 7.5;
constexpr size_t kMostNameLetters = 20;
constexpr size_t kLettersOfGuessing = 12;  // "chance 0.1234", in small print

// The element of an array of a specification that has that name.
Json& Named(Json& array, absl::string_view name) {
  return *std::find_if(array.begin(), array.end(), [name](const Json& entry) {
    return entry.value("name", "") == name;
  });
}

// The scores of guessing, as lines to draw across a chart. Where both are the
// same a single one is drawn.
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

// Gives each entry of the arrays a "label_y", as near as there is room to the
// height of its "accuracy". Returns the height that the plot needs for it.
double PlaceNames(std::initializer_list<Json*> arrays) {
  std::vector<Json*> entries;
  for (Json* array : arrays) {
    for (Json& entry : *array) entries.push_back(&entry);
  }
  const double height =
      std::max(kPlotHeight, kNameHeight * static_cast<double>(entries.size()));
  const auto position = [height](const Json* entry) {
    return (1 - entry->at("accuracy").get<double>()) * height;
  };
  std::stable_sort(entries.begin(), entries.end(),
                   [&position](const Json* a, const Json* b) {
                     return position(a) < position(b);
                   });
  std::vector<double> positions;
  for (const Json* entry : entries) positions.push_back(position(entry));
  positions = SpreadOut(std::move(positions), kNameHeight, 0, height);
  for (size_t i = 0; i < entries.size(); ++i) {
    (*entries[i])["label_y"] = positions[i];
  }
  return height;
}

// "softmax, retention and linear".
std::string NameList(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) list += i + 1 == names.size() ? " and " : ", ";
    list += names[i];
  }
  return list;
}

// At most six ticks, at powers of two.
Json PowerTicks(double low, double high) {
  const int first = static_cast<int>(std::lround(std::log2(low)));
  const int last = static_cast<int>(std::lround(std::log2(high)));
  const int stride = std::max(1, (last - first + 4) / 5);
  Json ticks = Json::array();
  for (int power = first; power <= last; power += stride) {
    ticks.push_back(std::exp2(power));
  }
  return ticks;
}

}  // namespace

std::vector<double> SpreadOut(std::vector<double> sorted, double gap,
                              double low, double high) {
  double lowest = low;
  for (double& position : sorted) {
    position = std::max(position, lowest);
    lowest = position + gap;
  }
  double highest = high;
  for (auto position = sorted.rbegin(); position != sorted.rend(); ++position) {
    *position = std::min(*position, highest);
    highest = *position - gap;
  }
  return sorted;
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
  spec["height"] = PlaceNames({&ends, &floors});
  Named(spec["data"], "ends")["values"] = std::move(ends);
  Named(spec["data"], "floors")["values"] = std::move(floors);
  Named(spec["scales"], "x")["domain"] = {0, last_step};
  Named(spec["signals"], "one_seed")["value"] = board.seeds.size() == 1;
  Named(spec["signals"], "names")["value"] =
      16 + kNameLetterWidth *
               static_cast<double>(std::min(letters, kMostNameLetters));
  return spec.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string StateChartSpec(const Board& board) {
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
      board.task, " for ", NameList(names), ".");
  Named(spec["data"], "points")["values"] = std::move(points);
  Named(spec["data"], "floors")["values"] = Floors(board);
  // Whole powers of two with room beside the outermost points.
  const double low =
      std::exp2(std::floor(std::log2(static_cast<double>(smallest)) - 0.5));
  const double high =
      std::exp2(std::ceil(std::log2(static_cast<double>(largest)) + 0.5));
  Named(spec["scales"], "x")["domain"] = {low, high};
  spec["axes"][0]["values"] = PowerTicks(low, high);
  return spec.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace mneme
