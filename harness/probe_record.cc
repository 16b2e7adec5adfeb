// SPDX-License-Identifier: Apache-2.0

#include "harness/probe_record.h"

#include "harness/record_file.h"

namespace mneme {

absl::StatusOr<std::string> FormatProbe(const ProbeRecord& record) {
  return FormatMessage(record, kProbeSchema);
}

absl::StatusOr<ProbeRecord> ParseProbe(absl::string_view bytes) {
  ProbeRecord record;
  const absl::Status status = ParseMessage(bytes, kProbeSchema, &record);
  if (!status.ok()) return status;
  return record;
}

absl::Status WriteProbe(const std::string& path, const ProbeRecord& record) {
  return WriteMessage(path, record, kProbeSchema);
}

absl::StatusOr<ProbeRecord> ReadProbe(const std::string& path) {
  return ReadMessageAs<ProbeRecord>(path, kProbeSchema);
}

}  // namespace mneme
