// SPDX-License-Identifier: Apache-2.0
//
// Records from files, checked before anybody computes with them.

#ifndef MNEME_REPORTS_RECORDS_H_
#define MNEME_REPORTS_RECORDS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "harness/probe.pb.h"
#include "harness/result.pb.h"
#include "harness/throughput.pb.h"

namespace mneme {

struct Records {
  std::vector<ResultRecord> cells;
  std::vector<ProbeRecord> probes;
  std::vector<ThroughputRecord> throughput;
};

// The records in `paths`: files, and directories searched through for files
// named *.record, *.probe or *.throughput, in sorted order. What is named
// *.probe is taken for a probe, *.throughput for how fast a variant is, any
// other file for a cell. Errors name the file: NotFound when it is missing, or
// a directory holds none; DataLoss when it is damaged, or holds what no run
// could have written.
absl::StatusOr<Records> LoadRecords(absl::Span<const std::string> paths);

// Likewise of throughput alone: of a directory only files named *.throughput
// count, and any other file is taken for one.
absl::StatusOr<std::vector<ThroughputRecord>> LoadThroughput(
    absl::Span<const std::string> paths);

// DataLoss when a record lacks its names, is of another schema, or has scores
// that are none.
absl::Status CheckRecord(const ResultRecord& record);

// DataLoss when a probe lacks its variant, is of another schema, or has figures
// that are none.
absl::Status CheckProbe(const ProbeRecord& record);

// Likewise, of how fast a variant is. What was not timed has no figures.
absl::Status CheckThroughput(const ThroughputRecord& record);

}  // namespace mneme

#endif  // MNEME_REPORTS_RECORDS_H_
