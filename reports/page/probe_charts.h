// SPDX-License-Identifier: Apache-2.0
//
// The charts of probes, as Vega specifications: see charts.h. That of
// capacities has another signal, `setup`, the index of that whose curves it
// shows.

#ifndef MNEME_REPORTS_PAGE_PROBE_CHARTS_H_
#define MNEME_REPORTS_PAGE_PROBE_CHARTS_H_

#include <string>

#include "absl/types/span.h"
#include "reports/probe_results.h"

namespace mneme {

// An error smaller than this is the rounding of float32.
inline constexpr double kExactError = 1e-5;

// Recall against pairs for each key dimension, on a logarithmic scale, with
// intervals: one line for each memory, named at the right.
std::string CapacityChartSpec(absl::Span<const Probe> probes);

// Error against the size of a knob, both on logarithmic scales, with intervals:
// one line for each approximation. What is below kExactError lies on
// the foot of the chart; a size of 0 has no place on it.
std::string ApproximationChartSpec(absl::Span<const Probe> probes);

// Whether the chart would show anything.
bool HasCapacities(absl::Span<const Probe> probes);
bool HasApproximations(absl::Span<const Probe> probes);

}  // namespace mneme

#endif  // MNEME_REPORTS_PAGE_PROBE_CHARTS_H_
