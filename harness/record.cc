// SPDX-License-Identifier: Apache-2.0

#include "harness/record.h"

#include "harness/record_file.h"

namespace mneme {

absl::StatusOr<std::string> FormatRecord(const ResultRecord& record) {
  return FormatMessage(record, kRecordSchema);
}

absl::StatusOr<ResultRecord> ParseRecord(absl::string_view bytes) {
  ResultRecord record;
  const absl::Status status = ParseMessage(bytes, kRecordSchema, &record);
  if (!status.ok()) return status;
  return record;
}

absl::Status WriteRecord(const std::string& path, const ResultRecord& record) {
  return WriteMessage(path, record, kRecordSchema);
}

absl::StatusOr<ResultRecord> ReadRecord(const std::string& path) {
  return ReadMessageAs<ResultRecord>(path, kRecordSchema);
}

}  // namespace mneme
