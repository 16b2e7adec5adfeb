// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_
#define MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_

#include <nlohmann/json.hpp>
#include <string>

#include "absl/types/span.h"
#include "harness/throughput.pb.h"

namespace mneme {

// [{"variant", "options", "contender", "phase", "shape", "threads",
// "milliseconds", ...}]: an entry for every measurement of every record, with
// null for what it does not have. One that was not timed has an "error"
// instead.
nlohmann::ordered_json JsonFromMeasurements(
    absl::Span<const ThroughputRecord> records);

// [{"beside": VARIANT, "threads", "flops", "exps", "levels", ...}]
nlohmann::ordered_json JsonFromCeilings(
    absl::Span<const ThroughputRecord> records);

// {"throughput": [...], "ceilings": [...], "environment": {...}}, which is
// where the last record was made.
std::string ThroughputJson(absl::Span<const ThroughputRecord> records);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_
