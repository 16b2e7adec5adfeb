// SPDX-License-Identifier: Apache-2.0

#include "reports/page/probe_charts.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "reports/page/assets.h"
#include "reports/page/chart_parts.h"

namespace mneme {
namespace {

using Json = ChartJson;

double ScoreRounded(double score) { return std::round(score * 1e4) / 1e4; }

Json CapacityLine(size_t id, size_t setup, const CapacityCurve& curve) {
  Json pairs = Json::array(), recall = Json::array(), low = Json::array(),
       high = Json::array();
  for (const CapacityPoint& point : curve.points()) {
    pairs.push_back(point.pairs());
    recall.push_back(ScoreRounded(point.recall().mean()));
    low.push_back(ScoreRounded(point.recall().low()));
    high.push_back(ScoreRounded(point.recall().high()));
  }
  return {{"id", id},       {"setup", setup},   {"d", curve.key_dim()},
          {"pairs", pairs}, {"recall", recall}, {"low", low},
          {"high", high}};
}

double PerDim(const CapacityPoint& point, const CapacityCurve& curve) {
  return static_cast<double>(point.pairs()) /
         static_cast<double>(curve.key_dim());
}

// How high the names of lines stand, from the ends of the lines. Lines that
// were left to fall no further all end about as low: of them the first to fall
// has the lowest name, so that what leads to the names does not cross.
std::function<double(const Json&)> NameHeights(const Json& ends,
                                               const ChartRange& per_dim) {
  constexpr double kFallen = 0.5;
  double last = 0;
  for (const Json& end : ends) {
    last = std::max(last, end["per_dim"].get<double>());
  }
  return [last, per_dim](const Json& end) {
    const double recall = end["recall"], x = end["per_dim"];
    if (recall >= kFallen || x >= last) return recall;
    return kFallen * std::log(x / per_dim.low) /
           std::log(per_dim.high / per_dim.low);
  };
}

// A curve of an approximation, without a size of 0, which has no logarithm.
Json ApproximationLine(size_t id, const ApproximationCurve& curve) {
  Json sizes = Json::array(), error = Json::array(), low = Json::array(),
       high = Json::array();
  for (const ApproximationPoint& point : curve.points()) {
    if (point.size() == 0) continue;
    sizes.push_back(point.size());
    error.push_back(Rounded(point.error().mean(), 4));
    low.push_back(Rounded(point.error().low(), 4));
    high.push_back(Rounded(point.error().high(), 4));
  }
  return {{"id", id},
          {"sizes", sizes},
          {"error", error},
          {"low", low},
          {"high", high}};
}

}  // namespace

bool HasCapacities(absl::Span<const Probe> probes) {
  return !ByCapacity(probes).empty();
}

bool HasApproximations(absl::Span<const Probe> probes) {
  for (const Probe& probe : probes) {
    for (const ApproximationCurve& curve : probe.record.approximation()) {
      if (!ApproximationLine(0, curve)["sizes"].empty()) return true;
    }
  }
  return false;
}

std::string CapacityChartSpec(absl::Span<const Probe> probes) {
  Json looks = Json::array(), curves = Json::array();
  std::map<size_t, Json> ends;  // of each setup
  const std::vector<CapacitySetup> setups = CapacitySetups(probes);
  std::vector<std::string> names;
  ChartRange range;
  for (const Probe* probe : ByCapacity(probes)) {
    const size_t id = looks.size();
    looks.push_back(
        LookOf(id, probe->variant, probe->variant, probe->variant_index));
    names.push_back(probe->variant);
    for (const CapacityCurve& curve : probe->record.capacity()) {
      const size_t setup = static_cast<size_t>(
          std::lower_bound(setups.begin(), setups.end(), SetupOf(curve)) -
          setups.begin());
      curves.push_back(CapacityLine(id, setup, curve));
      for (const CapacityPoint& point : curve.points()) {
        range.Add(PerDim(point, curve));
      }
      const CapacityPoint& end = *curve.points().rbegin();
      ends.try_emplace(setup, Json::array())
          .first->second.push_back(
              {{"id", id},
               {"setup", setup},
               {"per_dim", PerDim(end, curve)},
               {"recall", ScoreRounded(end.recall().mean())}});
    }
  }
  Json spec = Json::parse(CapacityChartTemplate());
  spec["description"] = absl::StrCat(
      "Line chart of recall, from 0 to 1, against the number of pairs for each "
      "key dimension on a logarithmic scale for ",
      NameList(names), ".");
  const double height = HeightForNames(names.size());
  spec["height"] = height;
  Json all_ends = Json::array();
  for (auto& [setup, entries] : ends) {
    PlaceNames({&entries}, height, NameHeights(entries, range));
    for (Json& entry : entries) all_ends.push_back(std::move(entry));
  }
  Named(spec["signals"], "setup")["value"] = MainSetup(setups);
  Named(spec["scales"], "x")["domain"] = {range.low, range.high};
  spec["axes"][0]["values"] =
      PowerTicks(std::exp2(std::ceil(std::log2(range.low) - 1e-6)), range.high);
  SetLines(std::move(looks), std::move(curves), std::move(all_ends), spec);
  return Dump(spec);
}

std::string ApproximationChartSpec(absl::Span<const Probe> probes) {
  // Beside the outermost points, as factors.
  constexpr double kMarginX = 1.1, kMarginY = 1.25;
  Json looks = Json::array(), curves = Json::array(), ends = Json::array();
  std::vector<std::string> names;
  ChartRange sizes, errors;
  errors.Add(1);
  for (const Probe* probe : Approximations(probes)) {
    for (int i = 0; i < probe->record.approximation_size(); ++i) {
      const size_t id = looks.size();
      Json line = ApproximationLine(id, probe->record.approximation(i));
      if (line["sizes"].empty()) continue;
      names.push_back(ApproximationName(*probe, i));
      looks.push_back(
          LookOf(id, names.back(), probe->variant, probe->variant_index));
      for (const Json& size : line["sizes"]) sizes.Add(size.get<double>());
      for (const char* of : {"low", "high"}) {
        for (const Json& error : line[of]) {
          if (error >= kExactError) errors.Add(error.get<double>());
        }
      }
      ends.push_back({{"id", id},
                      {"size", line["sizes"].back()},
                      {"error", line["error"].back()}});
      curves.push_back(std::move(line));
    }
  }
  Json spec = Json::parse(ApproximationChartTemplate());
  spec["description"] = absl::StrCat(
      "Line chart of relative error against the size of a knob, both on "
      "logarithmic scales, for ",
      NameList(names), ".");
  const double height = HeightForNames(names.size());
  const double low = errors.low / kMarginY, high = errors.high * kMarginY;
  spec["height"] = height;
  PlaceNames({&ends}, height, [low, high](const Json& entry) {
    const double error = std::max(low, entry["error"].get<double>());
    return std::log(error / low) / std::log(high / low);
  });
  Named(spec["scales"], "x")["domain"] = {sizes.low / kMarginX,
                                          sizes.high * kMarginX};
  Named(spec["scales"], "y")["domain"] = {low, high};
  spec["axes"][0]["values"] = PowerTicks(sizes.low, sizes.high);
  spec["axes"][1]["values"] = DecimalTicks(low, high);
  SetLines(std::move(looks), std::move(curves), std::move(ends), spec);
  return Dump(spec);
}

}  // namespace mneme
