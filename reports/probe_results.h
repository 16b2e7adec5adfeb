// SPDX-License-Identifier: Apache-2.0
//
// Probe records, put in order: how much the memories of variants hold, and how
// far approximations are from what they approximate. Pure functions of records.

#ifndef MNEME_REPORTS_PROBE_RESULTS_H_
#define MNEME_REPORTS_PROBE_RESULTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "harness/probe.pb.h"

namespace mneme {

struct Probe {
  // The variant, followed in brackets by what tells this probe of it from
  // others: "performer (features=64)".
  std::string variant;
  size_t variant_index = 0;  // in Leaderboard::variants
  ProbeRecord record;
};

// Keeps the newest of the records of the same variant, options and seed; of
// capacities and approximations each, as a record may hold one of the two
// alone. Returns how many were dropped.
int KeepNewestProbes(std::vector<ProbeRecord>& records);

// By name, without their variant_index.
std::vector<Probe> MakeProbes(std::vector<ProbeRecord> records);

// Why variants have no capacity curve: variants that share a reason.
struct Unprobed {
  std::string reason;
  std::vector<std::string> variants;
};

// What cannot be probed comes first, then what failed, each by its reason.
std::vector<Unprobed> WhyUnprobed(absl::Span<const Probe> probes);

// --- Capacity ---

// How the pairs of a curve were made and written. Curves of one setup can be
// compared.
struct CapacitySetup {
  std::string keys = "random";
  int64_t passes = 1;
  int64_t key_dim = 0;

  // Whether it is no more than a key dimension.
  bool is_plain() const { return keys == "random" && passes == 1; }
  // "64", or "64, correlated keys, 4 passes".
  std::string Title() const;
};

bool operator==(const CapacitySetup& a, const CapacitySetup& b);
// Plain ones first, by rising key dimension.
bool operator<(const CapacitySetup& a, const CapacitySetup& b);

CapacitySetup SetupOf(const CapacityCurve& curve);

// Those of all curves, sorted.
std::vector<CapacitySetup> CapacitySetups(absl::Span<const Probe> probes);

// Index of the one of `setups`, which is not empty, that is shown when only one
// is.
size_t MainSetup(absl::Span<const CapacitySetup> setups);

// The probe's curve of that setup, or null.
const CapacityCurve* CurveAt(const Probe& probe, const CapacitySetup& setup);

// Probes with capacity curves, by falling number of pairs that they hold at 90%
// recall in the main setup: what was never filled first.
std::vector<const Probe*> ByCapacity(absl::Span<const Probe> probes);

// Pairs held at 90% recall: "15.3"; "≥4,096" where so many did not fill it,
// "<2" where so few did already.
std::string PairsText(const CapacityCurve& curve);

// "14.9-15.8"; "≥14.9" without an upper end; "" where there is no estimate.
std::string PairsIntervalText(const CapacityCurve& curve);

// Of the estimate, for each 1,024 bytes of measured state; absent without one.
absl::optional<double> PairsPerKib(const CapacityCurve& curve);

// "0.412"; "≥2.00" from the largest number tried where that did not fill it,
// which is exact for a state that grows with each pair; "" where nothing is
// known.
std::string PairsPerKibText(const CapacityCurve& curve);

// --- Approximation ---

// Probes with approximation curves, by name.
std::vector<const Probe*> Approximations(absl::Span<const Probe> probes);

// What a curve is called, the same for no other of the probe: "performer,
// features", or "performer, features (1)" when that knob is turned twice.
std::string ApproximationName(const Probe& probe, int curve);

}  // namespace mneme

#endif  // MNEME_REPORTS_PROBE_RESULTS_H_
