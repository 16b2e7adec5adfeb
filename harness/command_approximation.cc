// SPDX-License-Identifier: Apache-2.0

#include "harness/command_approximation.h"

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_format.h"
#include "attention/variant.h"
#include "harness/probe_flags.h"

namespace mneme {
namespace {

void Show(const std::string& variant, const ApproximationCurve& curve) {
  absl::PrintF("\n%s against %s: %s\n%12s %12s %24s\n", variant, curve.exact(),
               curve.setting(), curve.knob(), "error", "95% interval");
  for (const ApproximationPoint& point : curve.points()) {
    absl::PrintF("%12d %12.5f %24s\n", point.size(), point.error().mean(),
                 absl::StrFormat("%.5f..%.5f", point.error().low(),
                                 point.error().high()));
  }
}

absl::Status Approximate(const ProbeFlags& flags) {
  ProbeFlags probe = flags;
  if (probe.variants.empty()) {  // those that there is something to say of
    for (const std::string& name : Variants().Names()) {
      const absl::StatusOr<const Variant*> variant = Variants().Find(name);
      if (!variant.ok()) return variant.status();
      if (!(*variant)->descriptor.approximations.empty()) {
        probe.variants.push_back(name);
      }
    }
  }
  bool headed = false;  // not before a mistake in the flags has been found
  return ProbeVariants(probe, [&](const ProbeRecord& record) {
    if (!headed) {
      absl::PrintF("|approximate - exact| / |exact|, %d trials, seed %d\n",
                   record.trials(), record.seed());
    }
    headed = true;
    for (const ApproximationCurve& curve : record.approximation()) {
      Show(record.variant(), curve);
    }
    if (record.approximation().empty()) {
      absl::PrintF("\n%s approximates nothing\n", record.variant());
    }
  });
}

}  // namespace

void AddApproximationCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "approximation",
      "Measure approximations against what they approximate, without training");
  auto flags = std::make_shared<ProbeFlags>();
  AddProbeFlags(command, flags.get());
  command->callback(
      [action, flags] { *action = [flags] { return Approximate(*flags); }; });
}

}  // namespace mneme
