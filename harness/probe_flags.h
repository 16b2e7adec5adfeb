// SPDX-License-Identifier: Apache-2.0
//
// What the commands that probe any number of variants share: their flags, and
// where their records go.

#ifndef MNEME_HARNESS_PROBE_FLAGS_H_
#define MNEME_HARNESS_PROBE_FLAGS_H_

#include <functional>
#include <string>
#include <vector>

#include "harness/command_line.h"
#include "harness/probes/probe.h"

namespace mneme {

struct ProbeFlags {
  ProbeRequest request;               // of one variant after the other
  std::vector<std::string> variants;  // none: all
  std::string seed = "0";             // CLI11 would take -1 for the largest
  std::string simd = "best";
  std::string out;
  bool json = false;
};

// --variant, --set, --trials, --seed, --simd, --json and --out.
void AddProbeFlags(CLI::App* command, ProbeFlags* flags);

// Probes the chosen variants in turn. Shows every record as soon as it is
// there, unless all are to be printed as JSON, and writes it where --out says:
// to the file, if that ends in .probe, or to DIR/VARIANT.probe.
absl::Status ProbeVariants(const ProbeFlags& flags,
                           const std::function<void(const ProbeRecord&)>& show);

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBE_FLAGS_H_
