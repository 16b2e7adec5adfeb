// SPDX-License-Identifier: Apache-2.0
//
// Result records (result.proto) on disk: one gzip member that holds one
// serialised message and nothing else, so that
//
//   zcat FILE | protoc --decode=mneme.ResultRecord harness/result.proto
//
// prints it. Equal records give equal bytes: fields in the order of their
// numbers, no time in the gzip header.

#ifndef MNEME_HARNESS_RECORD_H_
#define MNEME_HARNESS_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "harness/result.pb.h"

namespace mneme {

// The value of ResultRecord.schema that this program writes and reads.
inline constexpr int32_t kRecordSchema = 1;

// The bytes of a record's file. InvalidArgument if its schema is another than
// kRecordSchema, or a text in it is not UTF-8 and so could not be read back.
absl::StatusOr<std::string> FormatRecord(const ResultRecord& record);

// The record in a file's bytes. DataLoss if they are not exactly one:
// truncated, damaged (gzip's CRC-32 covers the record), followed by something,
// no record, or one of another schema.
absl::StatusOr<ResultRecord> ParseRecord(absl::string_view bytes);

// As above, to and from files; written atomically. Messages name the file; also
// the errors of atomic_file.h.
absl::Status WriteRecord(const std::string& path, const ResultRecord& record);
absl::StatusOr<ResultRecord> ReadRecord(const std::string& path);

}  // namespace mneme

#endif  // MNEME_HARNESS_RECORD_H_
