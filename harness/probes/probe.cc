// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/probe.h"

#include <chrono>

#include "absl/status/status.h"
#include "attention/variant.h"
#include "harness/environment.h"
#include "harness/probe_record.h"
#include "harness/probes/approximation.h"
#include "harness/probes/operators.h"

namespace mneme {
namespace {

// Adds the curves, or returns why there are none.
absl::Status ProbeCapacity(const ProbeRequest& request, const Variant& variant,
                           const OptionValues& set, ProbeRecord* record) {
  const absl::StatusOr<Operators> operators =
      MakeOperators(variant, set, request.trials, request.seed);
  if (!operators.ok()) return operators.status();
  for (const CapacitySweep& sweep : request.capacity) {
    CapacitySettings settings;
    settings.trials = request.trials;
    settings.seed = request.seed;
    settings.keys = sweep.keys;
    settings.passes = sweep.passes;
    settings.max_pairs = sweep.max_pairs;
    for (int64_t key_dim : sweep.key_dims) {
      auto curve = MeasureCapacity(*operators, key_dim, settings);
      if (!curve.ok()) return curve.status();
      *record->add_capacity() = *std::move(curve);
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<CapacitySweep> DefaultSweeps() {
  CapacitySweep correlated;
  correlated.key_dims = {64};
  correlated.keys = KeySet::kCorrelated;
  correlated.passes = 4;
  correlated.max_pairs = 256;
  return {CapacitySweep(), correlated};
}

absl::StatusOr<ProbeRecord> RunProbe(const ProbeRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<const Variant*> variant = Variants().Find(request.variant);
  if (!variant.ok()) return variant.status();
  const VariantDescriptor& described = (*variant)->descriptor;
  OptionValues values;
  for (const std::string& text : request.set) {
    auto assignment = ParseAssignment(text);
    if (!assignment.ok()) return assignment.status();
    values.push_back(*assignment);
  }
  absl::StatusOr<Options> options = Options::Parse(described.options, values);
  if (!options.ok()) return options.status();

  ProbeRecord record;
  record.set_schema(kProbeSchema);
  record.set_variant(described.name);
  record.set_family(described.family);
  record.set_variant_version(described.version);
  for (const auto& [name, value] : options->ToValues()) {
    Setting* setting = record.add_variant_options();
    setting->set_name(name);
    setting->set_value(value);
  }
  record.set_seed(request.seed);
  record.set_trials(request.trials);
  *record.mutable_environment() = DescribeEnvironment(request.workspace_status);

  if (!request.capacity.empty()) {
    const absl::Status status =
        ProbeCapacity(request, **variant, values, &record);
    if (absl::IsUnimplemented(status)) {
      record.set_unsupported(std::string(status.message()));
    } else if (!status.ok()) {
      return status;
    }
  }
  if (request.approximation) {
    for (const Approximation& approximation : described.approximations) {
      auto curve = MeasureApproximation(**variant, approximation, values,
                                        request.trials, request.seed);
      if (!curve.ok()) return curve.status();
      *record.add_approximation() = *std::move(curve);
    }
  }
  record.set_seconds(
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count());
  return record;
}

}  // namespace mneme
