// SPDX-License-Identifier: Apache-2.0
//
// The command line of //harness:throughput.

#ifndef MNEME_HARNESS_THROUGHPUT_FLAGS_H_
#define MNEME_HARNESS_THROUGHPUT_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "harness/throughput/suite.h"

namespace mneme {

struct ThroughputFlags {
  SuiteRequest request;
  std::vector<std::string> variants;  // checked; all when none were given
  std::string simd = "best";
  std::string json;  // a file, "-" for stdout in place of the table, or ""
  std::string out;   // a directory, or ""
  bool list = false;
  // --benchmark_format was given: Google Benchmark's own output is wanted.
  bool benchmark_output = false;
  std::string benchmark_out;  // a file for Google Benchmark's JSON, or ""
  // For benchmark::Initialize: argv[0] and the other flags that are its own.
  std::vector<std::string> benchmark;
  // Not empty when help was asked for: then print it, and do nothing else.
  std::string help;
};

// InvalidArgument, in one line that names the flag, for an unknown flag (with
// the nearest known one) or a bad value.
absl::StatusOr<ThroughputFlags> ParseThroughputFlags(int argc,
                                                     const char* const* argv);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_FLAGS_H_
