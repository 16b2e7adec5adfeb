// SPDX-License-Identifier: Apache-2.0

#include "reports/page/probe_section.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "reports/format.h"
#include "reports/page/probe_charts.h"
#include "reports/page/series.h"

namespace mneme {
namespace {

// "8 trials, seed 0", as far as all probes with curves agree.
std::string AsideOf(absl::Span<const Probe> probes) {
  std::set<int64_t> trials;
  std::set<uint64_t> seeds;
  for (const Probe& probe : probes) {
    const ProbeRecord& record = probe.record;
    if (record.capacity_size() + record.approximation_size() == 0) continue;
    trials.insert(record.trials());
    seeds.insert(record.seed());
  }
  std::vector<std::string> parts;
  if (trials.size() == 1 && *trials.begin() > 0) {
    parts.push_back(absl::StrCat(*trials.begin(),
                                 *trials.begin() == 1 ? " trial" : " trials"));
  }
  if (!seeds.empty()) {
    parts.push_back(WithDashes(
        FormatSeeds(std::vector<uint64_t>(seeds.begin(), seeds.end()))));
  }
  return absl::StrJoin(parts, ", ");
}

// Two cells: pairs with their interval, pairs per KiB with the state.
ViewData CapacityCells(const CapacityCurve* curve) {
  ViewData cells;
  cells.set("pairs", curve == nullptr ? "–" : PairsText(*curve));
  cells.set("interval",
            TextOrNothing(
                curve == nullptr ? "" : WithDashes(PairsIntervalText(*curve))));
  const std::string per_kib = curve == nullptr ? "" : PairsPerKibText(*curve);
  cells.set("per_kib", per_kib.empty() ? "–" : per_kib);
  cells.set(
      "state",
      TextOrNothing(curve == nullptr ? "" : FormatBytes(curve->state_bytes())));
  return cells;
}

ViewData CapacityRows(absl::Span<const Probe> probes,
                      const std::vector<CapacitySetup>& setups) {
  ViewData rows = ViewList();
  for (const Probe* probe : ByCapacity(probes)) {
    ViewData curves = ViewList();
    for (const CapacitySetup& setup : setups) {
      curves << CapacityCells(CurveAt(*probe, setup));
    }
    ViewData row;
    row.set("variant", probe->variant);
    row.set("family", probe->record.family());
    row.set("color", absl::StrCat(SeriesColor(probe->variant_index)));
    row.set("marker", SeriesMarker(probe->variant_index));
    row.set("curves", curves);
    rows << row;
  }
  return rows;
}

ViewData SetupList(const std::vector<CapacitySetup>& setups) {
  ViewData list = ViewList();
  for (size_t i = 0; i < setups.size(); ++i) {
    ViewData setup;
    setup.set("index", absl::StrCat(i));
    setup.set("title", setups[i].Title());
    setup.set("chosen", i == MainSetup(setups));
    list << setup;
  }
  return list;
}

ViewData UnprobedList(absl::Span<const Probe> probes) {
  ViewData list = ViewList();
  for (const Unprobed& unprobed : WhyUnprobed(probes)) {
    ViewData item;
    item.set("variants", absl::StrJoin(unprobed.variants, ", "));
    item.set("reason", unprobed.reason);
    list << item;
  }
  return list;
}

// What each curve is of.
ViewData ApproximationList(absl::Span<const Probe> probes) {
  ViewData list = ViewList();
  for (const Probe* probe : Approximations(probes)) {
    for (int i = 0; i < probe->record.approximation_size(); ++i) {
      const ApproximationCurve& curve = probe->record.approximation(i);
      ViewData item;
      item.set("name", ApproximationName(*probe, i));
      item.set("exact", curve.exact());
      item.set("setting", TextOrNothing(curve.setting()));
      list << item;
    }
  }
  return list;
}

// The points of all curves, of which the first names the curve.
ViewData ApproximationRows(absl::Span<const Probe> probes) {
  ViewData rows = ViewList();
  for (const Probe* probe : Approximations(probes)) {
    for (int i = 0; i < probe->record.approximation_size(); ++i) {
      const ApproximationCurve& curve = probe->record.approximation(i);
      ViewData heading;
      heading.set("name", ApproximationName(*probe, i));
      heading.set("count", absl::StrCat(curve.points_size()));
      for (const ApproximationPoint& point : curve.points()) {
        const Measurement& error = point.error();
        ViewData row;
        row.set("heading", heading);
        row.set("size", FormatCount(static_cast<double>(point.size())));
        row.set("error", FormatFigures(error.mean()));
        row.set("interval", absl::StrCat(FormatFigures(error.low()), "–",
                                         FormatFigures(error.high())));
        rows << row;
        heading = ViewData(false);
      }
    }
  }
  return rows;
}

bool AnyPoint(absl::Span<const Probe> probes,
              bool (*holds)(const ApproximationPoint&)) {
  for (const Probe& probe : probes) {
    for (const ApproximationCurve& curve : probe.record.approximation()) {
      if (std::any_of(curve.points().begin(), curve.points().end(), holds)) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

ViewData CapacitySection(absl::Span<const Probe> probes) {
  const std::vector<CapacitySetup> setups = CapacitySetups(probes);
  const ViewData unprobed = UnprobedList(probes);
  if (setups.empty() && unprobed.is_empty_list()) return ViewData(false);
  ViewData section;
  section.set("aside", TextOrNothing(AsideOf(probes)));
  section.set("has_unprobed", !unprobed.is_empty_list());
  section.set("unprobed", unprobed);
  if (!HasCapacities(probes)) {
    section.set("curves", false);
    return section;
  }
  ViewData curves;
  curves.set("spec", ScriptSafe(CapacityChartSpec(probes)));
  curves.set("setups", SetupList(setups));
  curves.set("rows", CapacityRows(probes, setups));
  curves.set("has_special", !setups.back().is_plain());
  section.set("curves", curves);
  return section;
}

ViewData ApproximationSection(absl::Span<const Probe> probes) {
  if (Approximations(probes).empty()) return ViewData(false);
  ViewData section;
  section.set("aside", TextOrNothing(AsideOf(probes)));
  section.set("has_chart", HasApproximations(probes));
  if (HasApproximations(probes)) {
    section.set("spec", ScriptSafe(ApproximationChartSpec(probes)));
  }
  section.set("has_exact",
              AnyPoint(probes, [](const ApproximationPoint& point) {
                return point.error().mean() < kExactError;
              }));
  section.set("has_zero", AnyPoint(probes, [](const ApproximationPoint& point) {
                return point.size() == 0;
              }));
  section.set("curves", ApproximationList(probes));
  section.set("rows", ApproximationRows(probes));
  return section;
}

}  // namespace mneme
