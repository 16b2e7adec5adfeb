// SPDX-License-Identifier: Apache-2.0

#include "harness/command_capacity.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "harness/probe_flags.h"

namespace mneme {
namespace {

struct Flags {
  ProbeFlags probe;
  CapacitySweep sweep;
  std::string keys = "random";
};

void ShowCurve(const std::string& variant, const CapacityCurve& curve) {
  const CapacityPoint& last = curve.points(curve.points_size() - 1);
  const bool fell = curve.has_pairs_at_90();
  const double pairs =
      fell ? curve.pairs_at_90().mean() : static_cast<double>(last.pairs());
  const char* at_least = fell ? "" : ">=";
  const std::string interval =
      fell ? absl::StrFormat("%.1f..%.1f", curve.pairs_at_90().low(),
                             curve.pairs_at_90().high())
           : "";
  absl::PrintF(
      "%-18s %5d %9s %15s %9s %12d %12s\n", variant, curve.key_dim(),
      absl::StrFormat("%s%.1f", at_least, pairs), interval,
      absl::StrFormat("%s%.2f", at_least,
                      pairs / static_cast<double>(curve.key_dim())),
      curve.state_bytes(),
      absl::StrFormat("%s%.2f", at_least,
                      pairs * 1024 / std::max<double>(1, curve.state_bytes())));
}

void Show(const ProbeRecord& record) {
  for (const CapacityCurve& curve : record.capacity()) {
    ShowCurve(record.variant(), curve);
  }
  if (!record.unsupported().empty()) {
    absl::PrintF("%-18s     - %s\n", record.variant(), record.unsupported());
  }
}

absl::Status Capacity(const Flags& flags) {
  const absl::StatusOr<KeySet> keys = ParseKeySet(flags.keys);
  if (!keys.ok()) return keys.status();
  CapacitySweep sweep = flags.sweep;
  sweep.keys = *keys;
  std::sort(sweep.key_dims.begin(), sweep.key_dims.end());
  ProbeFlags probe = flags.probe;
  probe.request.capacity = {sweep};
  probe.request.approximation = false;
  bool headed = false;  // not before a mistake in the flags has been found
  return ProbeVariants(probe, [&](const ProbeRecord& record) {
    if (!headed) {
      absl::PrintF(
          "pairs at 90%% recall, %s keys written %s, %d trials, seed "
          "%d\n\n"
          "%-18s %5s %9s %15s %9s %12s %12s\n",
          flags.keys,
          sweep.passes == 1 ? "once" : absl::StrCat(sweep.passes, " times"),
          record.trials(), record.seed(), "variant", "d_k", "pairs",
          "95% interval", "pairs/d_k", "state bytes", "pairs/KiB");
    }
    headed = true;
    Show(record);
  });
}

}  // namespace

void AddCapacityCommand(CLI::App* app, Action* action) {
  CLI::App* command = app->add_subcommand(
      "capacity",
      "Count the pairs that bare mechanisms hold, without training");
  auto flags = std::make_shared<Flags>();
  AddProbeFlags(command, &flags->probe);
  CapacitySweep& sweep = flags->sweep;
  command
      ->add_option("--dims", sweep.key_dims,
                   "Widths of keys and values, with commas between them")
      ->delimiter(',')
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  command
      ->add_option("--keys", flags->keys,
                   "random: independent; correlated: with cosines of 1/2; "
                   "orthogonal: no more than d_k")
      ->capture_default_str();
  command
      ->add_option("--passes", sweep.passes,
                   "Times that all pairs are written, one after another")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--max_pairs", sweep.max_pairs,
                   "No more pairs than this are tried, nor than 64 d_k")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->callback(
      [action, flags] { *action = [flags] { return Capacity(*flags); }; });
}

}  // namespace mneme
