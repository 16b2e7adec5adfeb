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

// [{"beside": VARIANT, "threads", "flops", "exps", "bf16_flops", "amx_flops",
// "levels": [{"bytes_per_second", "read_write_bytes_per_second", "capacity"},
// ...]}]: rates per second of all threads together, of L1, L2, L3 and DRAM in
// this order. A rate that was not measured, or is of what the machine does not
// have, is left out, and so is the capacity of DRAM.
nlohmann::ordered_json JsonFromCeilings(
    absl::Span<const ThroughputRecord> records);

// {"throughput": [...], "ceilings": [...], "environment": {...}}, which is
// where the last record was made.
std::string ThroughputJson(absl::Span<const ThroughputRecord> records);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_THROUGHPUT_JSON_H_
