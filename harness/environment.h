// SPDX-License-Identifier: Apache-2.0
//
// Where a result was measured.

#ifndef MNEME_HARNESS_ENVIRONMENT_H_
#define MNEME_HARNESS_ENVIRONMENT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "harness/result.pb.h"

namespace mneme {

// CPU model, cores, SIMD target, compiler, build mode and date. The machine is
// named by its type; no host name is recorded. status_file is Bazel's
// volatile-status.txt, whose MNEME_COMMIT line names the commit; empty, or one
// without that line, records "unknown".
Environment DescribeEnvironment(const std::string& status_file);

// Under `bazel run` the status file that the build of this program left, in
// whichever folder links to Bazel's outputs; otherwise "".
std::string StatusFileOfBazelRun();

// The CPU's model name from the text of /proc/cpuinfo, "unknown" without one.
std::string CpuModel(absl::string_view cpuinfo);

}  // namespace mneme

#endif  // MNEME_HARNESS_ENVIRONMENT_H_
