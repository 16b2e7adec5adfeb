// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_
#define MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_

#include <string>

#include "absl/types/span.h"
#include "harness/throughput.pb.h"

namespace mneme {

// {"throughput": [{"variant", "contender", "phase", "shape", "threads",
// "milliseconds", ...}], "ceilings": [...], "environment": {...}}: an entry for
// every measurement of every record, with null for what it does not have.
std::string ThroughputJson(absl::Span<const ThroughputRecord> records);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_
