// SPDX-License-Identifier: Apache-2.0

#include "reports/page/speed_charts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "reports/distinctions.h"
#include "reports/page/assets.h"
#include "reports/page/chart_parts.h"
#include "reports/page/charts.h"
#include "reports/page/series.h"

namespace mneme {
namespace {

using Json = ChartJson;

constexpr int kDigits = 4;

// Beside the outermost points, as factors.
constexpr double kMargin = 1.25;

// The range and its margins, as far out as the next tick: narrow ranges would
// else have a tick or none.
ChartRange ToTicks(const ChartRange& range) {
  constexpr double kLargestStep = 2.5;  // from 2 to 5
  ChartRange widened = {range.low / kMargin, range.high * kMargin};
  const double low = widened.low, high = widened.high;
  double above = 0;
  for (const Json& tick :
       DecimalTicks(low / kLargestStep, high * kLargestStep)) {
    if (tick <= low) widened.low = tick;
    if (tick >= high && above == 0) widened.high = above = tick;
  }
  return widened;
}

Json SpeedLine(size_t id, size_t series, const LengthSeries::Line& line) {
  Json lengths = Json::array(), speeds = Json::array();
  for (const ThroughputMeasurement* m : line.points) {
    lengths.push_back(m->length());
    speeds.push_back(Rounded(m->tokens_per_second(), kDigits));
  }
  return {
      {"id", id}, {"series", series}, {"lengths", lengths}, {"speeds", speeds}};
}

// The speed of the row's mechanism, or null. Another version or other options
// are another mechanism.
const Speed* SpeedOf(const Leaderboard& leaderboard, const Row& row) {
  const ResultRecord& cell = leaderboard.cells[row.cells[0]];
  for (const Speed& speed : leaderboard.speeds) {
    const ThroughputRecord& record = speed.records[0];
    if (record.variant() == cell.variant() &&
        record.variant_version() == cell.variant_version() &&
        SettingsText(record.variant_options()) ==
            SettingsText(cell.variant_options())) {
      return &speed;
    }
  }
  return nullptr;
}

}  // namespace

std::string SpeedLengthChartSpec(absl::Span<const LengthSeries> series) {
  std::map<const Speed*, size_t> ids;
  Json looks = Json::array(), curves = Json::array(), all_ends = Json::array();
  std::vector<std::string> names;
  std::vector<Json> ends(series.size(), Json::array());
  ChartRange lengths, speeds;
  for (size_t i = 0; i < series.size(); ++i) {
    for (const LengthSeries::Line& line : series[i].lines) {
      const Speed& speed = *line.speed;
      const auto [found, is_new] = ids.try_emplace(&speed, looks.size());
      if (is_new) {
        looks.push_back(LookOf(found->second, speed.variant, speed.variant,
                               speed.variant_index));
        names.push_back(speed.variant);
      }
      curves.push_back(SpeedLine(found->second, i, line));
      for (const ThroughputMeasurement* m : line.points) {
        lengths.Add(static_cast<double>(m->length()));
        speeds.Add(m->tokens_per_second());
      }
      ends[i].push_back({{"id", found->second},
                         {"series", i},
                         {"length", curves.back()["lengths"].back()},
                         {"speed", curves.back()["speeds"].back()}});
    }
  }
  Json spec = Json::parse(SpeedLengthChartTemplate());
  spec["description"] = absl::StrCat(
      "Line chart of tokens per second against the length of the context, both "
      "on logarithmic scales, for ",
      NameList(names), ".");
  const double height = HeightForNames(names.size());
  const double low = speeds.low / kMargin, high = speeds.high * kMargin;
  spec["height"] = height;
  for (Json& entries : ends) {
    PlaceNames({&entries}, height, [low, high](const Json& entry) {
      return std::log(entry["speed"].get<double>() / low) /
             std::log(high / low);
    });
    for (Json& entry : entries) all_ends.push_back(std::move(entry));
  }
  Named(spec["scales"], "x")["domain"] = {lengths.low, lengths.high};
  Named(spec["scales"], "y")["domain"] = {low, high};
  spec["axes"][0]["values"] = PowerTicks(lengths.low, lengths.high);
  spec["axes"][1]["values"] = DecimalTicks(low, high);
  SetLines(std::move(looks), std::move(curves), std::move(all_ends), spec);
  return Dump(spec);
}

std::vector<AccuracySpeed> AccuracySpeedsOf(const Leaderboard& leaderboard,
                                            const Board& board) {
  std::vector<AccuracySpeed> phases;
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode, Phase::kTrain}) {
    const absl::optional<SpeedSetup> setup =
        MainSetup(leaderboard.speeds, phase);
    if (!setup.has_value()) continue;
    AccuracySpeed found = {phase, *setup, {}};
    for (const Row& row : board.rows) {
      if (!row.complete()) continue;
      const Speed* speed = SpeedOf(leaderboard, row);
      const ThroughputMeasurement* m =
          speed == nullptr ? nullptr : MeasuredIn(*speed, *setup);
      if (m == nullptr || !m->error().empty()) continue;
      found.points.push_back({&row, m->tokens_per_second()});
    }
    if (!found.points.empty()) phases.push_back(std::move(found));
  }
  return phases;
}

std::string AccuracySpeedChartSpec(const Board& board,
                                   absl::Span<const AccuracySpeed> phases) {
  Json points = Json::array(), domains = Json::array(), ticks = Json::array(),
       titles = Json::array();
  std::vector<std::string> names, phase_names;
  for (size_t i = 0; i < phases.size(); ++i) {
    ChartRange speeds;
    for (const SpeedPoint& point : phases[i].points) {
      const Row& row = *point.row;
      speeds.Add(point.tokens_per_second);
      points.push_back({{"phase", i},
                        {"variant", row.variant},
                        {"color", SeriesColor(row.variant_index)},
                        {"marker", SeriesMarker(row.variant_index)},
                        {"speed", Rounded(point.tokens_per_second, kDigits)},
                        {"accuracy", row.accuracy->mean},
                        {"low", row.accuracy->low},
                        {"high", row.accuracy->high}});
      if (std::find(names.begin(), names.end(), row.variant) == names.end()) {
        names.push_back(row.variant);
      }
    }
    const ChartRange domain = ToTicks(speeds);
    domains.push_back({domain.low, domain.high});
    ticks.push_back(DecimalTicks(domain.low, domain.high));
    phase_names.push_back(PhaseTitle(phases[i].phase));
    titles.push_back(absl::StrCat("tokens per second of ", phase_names.back(),
                                  ", ", phases[i].setup.Title(),
                                  " (logarithmic)"));
  }
  Json spec = Json::parse(AccuracySpeedChartTemplate());
  spec["height"] = kPlotHeight;
  spec["description"] = absl::StrCat(
      "Scatter plot of test accuracy, from 0 to 1, against tokens per second "
      "of ",
      NameList(phase_names), " on a logarithmic scale on ", board.task, " for ",
      NameList(names), ".");
  Named(spec["data"], "points")["values"] = std::move(points);
  Named(spec["data"], "floors")["values"] = Floors(board);
  Named(spec["signals"], "domains")["value"] = std::move(domains);
  Named(spec["signals"], "ticks")["value"] = std::move(ticks);
  Named(spec["signals"], "titles")["value"] = std::move(titles);
  return Dump(spec);
}

}  // namespace mneme
