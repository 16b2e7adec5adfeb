// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput_record.h"

#include "harness/record_file.h"

namespace mneme {

absl::Status WriteThroughput(const std::string& path,
                             const ThroughputRecord& record) {
  return WriteMessage(path, record, kThroughputSchema);
}

absl::StatusOr<ThroughputRecord> ReadThroughput(const std::string& path) {
  return ReadMessageAs<ThroughputRecord>(path, kThroughputSchema);
}

}  // namespace mneme
