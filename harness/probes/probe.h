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

struct ProbeRequest {
  std::string variant;
  std::vector<std::string> set;  // the variant's options, "name=value"
  bool capacity = true;
  std::vector<int64_t> key_dims = {16, 32, 64, 128};  // rising
  CapacitySettings settings;     // the seed and the trials are also those of
  bool approximation = true;     // the approximations
  std::string workspace_status;  // see DescribeEnvironment; may be empty
};

// A variant that cannot be probed gives a record that says why; an error is a
// request that makes no sense (unknown names, bad values) or a failure.
absl::StatusOr<ProbeRecord> RunProbe(const ProbeRequest& request);

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_PROBE_H_
