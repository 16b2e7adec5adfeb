// SPDX-License-Identifier: Apache-2.0
//
// The probes of one variant, giving one probe record.

#ifndef MNEME_HARNESS_PROBES_PROBE_H_
#define MNEME_HARNESS_PROBES_PROBE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "harness/probe.pb.h"
#include "harness/probes/capacity.h"

namespace mneme {

// Curves of capacity at several widths.
struct CapacitySweep {
  std::vector<int64_t> key_dims = {16, 32, 64, 128};  // rising
  KeySet keys = KeySet::kRandom;
  int64_t passes = 1;
  int64_t max_pairs = 4096;
};

struct ProbeRequest {
  std::string variant;
  std::vector<std::string> set;  // the variant's options, "name=value"
  uint64_t seed = 0;
  int64_t trials = 16;
  std::vector<CapacitySweep> capacity;  // in this order
  bool approximation = true;
  std::string workspace_status;  // see DescribeEnvironment; may be empty
};

// What a record for reports holds: random keys written once, and correlated
// ones written four times, at one width.
std::vector<CapacitySweep> DefaultSweeps();

// A variant that cannot be probed gives a record that says why; an error is a
// request that makes no sense (unknown names, bad values) or a failure.
absl::StatusOr<ProbeRecord> RunProbe(const ProbeRequest& request);

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_PROBE_H_
