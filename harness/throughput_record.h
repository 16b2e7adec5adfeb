// SPDX-License-Identifier: Apache-2.0
//
// Throughput records (throughput.proto) on disk, in *.throughput files made as
// record.h's are:
//
//   zcat FILE | protoc --decode=mneme.ThroughputRecord harness/throughput.proto
//
// prints one.

#ifndef MNEME_HARNESS_THROUGHPUT_RECORD_H_
#define MNEME_HARNESS_THROUGHPUT_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "harness/throughput.pb.h"

namespace mneme {

// The value of ThroughputRecord.schema that this program writes and reads.
inline constexpr int32_t kThroughputSchema = 1;

// As their namesakes of record.h, with the same errors.
absl::Status WriteThroughput(const std::string& path,
                             const ThroughputRecord& record);
absl::StatusOr<ThroughputRecord> ReadThroughput(const std::string& path);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_RECORD_H_
