// SPDX-License-Identifier: Apache-2.0
//
// Probe records (probe.proto) on disk, in *.probe files made as record.h's are:
//
//   zcat FILE | protoc --decode=mneme.ProbeRecord harness/probe.proto
//
// prints one.

#ifndef MNEME_HARNESS_PROBE_RECORD_H_
#define MNEME_HARNESS_PROBE_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "harness/probe.pb.h"

namespace mneme {

// The value of ProbeRecord.schema that this program writes and reads.
inline constexpr int32_t kProbeSchema = 1;

// As their namesakes of record.h, with the same errors.
absl::StatusOr<std::string> FormatProbe(const ProbeRecord& record);
absl::StatusOr<ProbeRecord> ParseProbe(absl::string_view bytes);
absl::Status WriteProbe(const std::string& path, const ProbeRecord& record);
absl::StatusOr<ProbeRecord> ReadProbe(const std::string& path);

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBE_RECORD_H_
