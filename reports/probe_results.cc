// SPDX-License-Identifier: Apache-2.0

#include "reports/probe_results.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "reports/distinctions.h"
#include "reports/format.h"

namespace mneme {
namespace {

// A usual size of a head.
constexpr int64_t kPreferredKeyDim = 64;
constexpr double kFilled = 0.9;  // recall below which a memory is full
constexpr double kKib = 1024;

using ProbeKey = std::tuple<std::string, int, std::string, uint64_t>;

ProbeKey KeyOf(const ProbeRecord& record) {
  return {record.variant(), record.variant_version(),
          SettingsText(record.variant_options()), record.seed()};
}

// What tells probes of one variant apart, besides its version.
Values DistinctionOf(const ProbeRecord& record) {
  Values values = ValuesOf(record.variant_options());
  if (record.failure().empty()) values["seed"] = absl::StrCat(record.seed());
  return values;
}

std::string NameOf(const ProbeRecord& record,
                   absl::Span<const ProbeRecord> all) {
  std::vector<Values> others;
  std::set<int> versions;
  for (const ProbeRecord& other : all) {
    if (other.variant() != record.variant()) continue;
    others.push_back(DistinctionOf(other));
    versions.insert(other.variant_version());
  }
  std::vector<std::string> differences =
      Differences(DistinctionOf(record), others);
  if (versions.size() > 1) {
    differences.push_back(absl::StrCat("version ", record.variant_version()));
  }
  return NameWith(record.variant(), differences);
}

bool NeverFilled(const CapacityCurve& curve) {
  return !curve.has_pairs_at_90() && curve.points_size() > 0 &&
         curve.points(0).recall().mean() >= kFilled;
}

// To sort by: (was never filled, pairs).
std::pair<bool, double> CapacityOf(const Probe& probe,
                                   const CapacitySetup& setup) {
  const CapacityCurve* curve = CurveAt(probe, setup);
  if (curve == nullptr) return {false, -1};
  if (curve->has_pairs_at_90()) return {false, curve->pairs_at_90().mean()};
  if (!NeverFilled(*curve)) return {false, 0};
  return {true, static_cast<double>(curve->points().rbegin()->pairs())};
}

// Gives a record the curves of an older one of a kind that it has none of.
// Returns whether others are lost.
bool Supersede(ProbeRecord& newer, ProbeRecord& older) {
  const auto says_capacity = [](const ProbeRecord& record) {
    return record.capacity_size() > 0 || !record.unsupported().empty();
  };
  bool lost = false;
  if (!says_capacity(newer)) {
    newer.mutable_capacity()->Swap(older.mutable_capacity());
    newer.set_unsupported(older.unsupported());
  } else {
    lost = says_capacity(older);
  }
  if (newer.approximation().empty()) {
    newer.mutable_approximation()->Swap(older.mutable_approximation());
  } else {
    lost = lost || !older.approximation().empty();
  }
  return lost;
}

}  // namespace

int KeepNewestProbes(std::vector<ProbeRecord>& records) {
  std::stable_sort(records.begin(), records.end(),
                   [](const ProbeRecord& a, const ProbeRecord& b) {
                     return a.environment().date() < b.environment().date();
                   });
  std::map<ProbeKey, ProbeRecord> newest;
  int dropped = 0;
  for (ProbeRecord& record : records) {
    ProbeRecord& kept = newest[KeyOf(record)];
    dropped += Supersede(record, kept) ? 1 : 0;
    kept = std::move(record);
  }
  records.clear();
  for (auto& [key, record] : newest) records.push_back(std::move(record));
  return dropped;
}

std::vector<Probe> MakeProbes(std::vector<ProbeRecord> records) {
  std::vector<Probe> probes(records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    probes[i].variant = NameOf(records[i], records);
  }
  for (size_t i = 0; i < records.size(); ++i) {
    probes[i].record = std::move(records[i]);
  }
  std::stable_sort(
      probes.begin(), probes.end(),
      [](const Probe& a, const Probe& b) { return a.variant < b.variant; });
  return probes;
}

std::vector<Unprobed> WhyUnprobed(absl::Span<const Probe> probes) {
  std::map<std::pair<bool, std::string>, std::vector<std::string>> variants;
  for (const Probe& probe : probes) {
    const std::string& failure = probe.record.failure();
    if (!failure.empty()) {
      variants[{true, absl::StrCat("failed: ", failure)}].push_back(
          probe.variant);
    } else if (!probe.record.unsupported().empty()) {
      variants[{false, probe.record.unsupported()}].push_back(probe.variant);
    }
  }
  std::vector<Unprobed> unprobed;
  for (auto& [reason, names] : variants) {
    unprobed.push_back({reason.second, std::move(names)});
  }
  return unprobed;
}

std::string CapacitySetup::Title() const {
  std::string title = absl::StrCat(key_dim);
  if (keys != "random") absl::StrAppend(&title, ", ", keys, " keys");
  if (passes != 1) absl::StrAppend(&title, ", ", passes, " passes");
  return title;
}

bool operator==(const CapacitySetup& a, const CapacitySetup& b) {
  return !(a < b) && !(b < a);
}

bool operator<(const CapacitySetup& a, const CapacitySetup& b) {
  const bool special_a = !a.is_plain(), special_b = !b.is_plain();
  return std::tie(special_a, a.keys, a.passes, a.key_dim) <
         std::tie(special_b, b.keys, b.passes, b.key_dim);
}

CapacitySetup SetupOf(const CapacityCurve& curve) {
  CapacitySetup setup;
  if (!curve.keys().empty()) setup.keys = curve.keys();
  if (curve.passes() > 0) setup.passes = curve.passes();
  setup.key_dim = curve.key_dim();
  return setup;
}

std::vector<CapacitySetup> CapacitySetups(absl::Span<const Probe> probes) {
  std::set<CapacitySetup> setups;
  for (const Probe& probe : probes) {
    for (const CapacityCurve& curve : probe.record.capacity()) {
      setups.insert(SetupOf(curve));
    }
  }
  return {setups.begin(), setups.end()};
}

size_t MainSetup(absl::Span<const CapacitySetup> setups) {
  size_t main = 0;
  for (size_t i = 0; i < setups.size() && setups[i].is_plain(); ++i) {
    if (setups[i].key_dim <= kPreferredKeyDim) main = i;
  }
  return main;
}

const CapacityCurve* CurveAt(const Probe& probe, const CapacitySetup& setup) {
  for (const CapacityCurve& curve : probe.record.capacity()) {
    if (SetupOf(curve) == setup) return &curve;
  }
  return nullptr;
}

std::vector<const Probe*> ByCapacity(absl::Span<const Probe> probes) {
  std::vector<const Probe*> sorted;
  for (const Probe& probe : probes) {
    if (probe.record.capacity_size() > 0) sorted.push_back(&probe);
  }
  if (sorted.empty()) return sorted;
  const std::vector<CapacitySetup> setups = CapacitySetups(probes);
  const CapacitySetup& main = setups[MainSetup(setups)];
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&main](const Probe* a, const Probe* b) {
                     return CapacityOf(*a, main) > CapacityOf(*b, main);
                   });
  return sorted;
}

std::string PairsText(const CapacityCurve& curve) {
  if (curve.has_pairs_at_90()) return FormatFigures(curve.pairs_at_90().mean());
  if (curve.points().empty()) return "";
  const CapacityPoint& bound =
      NeverFilled(curve) ? *curve.points().rbegin() : curve.points(0);
  return absl::StrCat(NeverFilled(curve) ? "≥" : "<",
                      FormatCount(static_cast<double>(bound.pairs())));
}

std::string PairsIntervalText(const CapacityCurve& curve) {
  if (!curve.has_pairs_at_90()) return "";
  const Measurement& pairs = curve.pairs_at_90();
  return std::isfinite(pairs.high())
             ? absl::StrCat(FormatFigures(pairs.low()), "-",
                            FormatFigures(pairs.high()))
             : absl::StrCat("≥", FormatFigures(pairs.low()));
}

absl::optional<double> PairsPerKib(const CapacityCurve& curve) {
  if (!curve.has_pairs_at_90() || curve.state_bytes() <= 0) {
    return absl::nullopt;
  }
  return curve.pairs_at_90().mean() * kKib /
         static_cast<double>(curve.state_bytes());
}

std::string PairsPerKibText(const CapacityCurve& curve) {
  if (const auto ratio = PairsPerKib(curve); ratio.has_value()) {
    return FormatFigures(*ratio);
  }
  if (!NeverFilled(curve) || curve.state_bytes() <= 0) return "";
  return absl::StrCat(
      "≥", FormatFigures(static_cast<double>(curve.points().rbegin()->pairs()) *
                         kKib / static_cast<double>(curve.state_bytes())));
}

std::vector<const Probe*> Approximations(absl::Span<const Probe> probes) {
  std::vector<const Probe*> approximations;
  for (const Probe& probe : probes) {
    if (probe.record.approximation_size() > 0) approximations.push_back(&probe);
  }
  return approximations;
}

std::string ApproximationName(const Probe& probe, int curve) {
  const ProbeRecord& record = probe.record;
  const std::string& knob = record.approximation(curve).knob();
  int number = 0, alike = 0;
  for (int i = 0; i < record.approximation_size(); ++i) {
    if (record.approximation(i).knob() != knob) continue;
    ++alike;
    if (i <= curve) ++number;
  }
  return absl::StrCat(probe.variant, ", ", knob,
                      alike == 1 ? "" : absl::StrCat(" (", number, ")"));
}

}  // namespace mneme
