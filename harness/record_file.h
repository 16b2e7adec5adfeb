// SPDX-License-Identifier: Apache-2.0
//
// Messages on disk: what the files of all kinds of records have in common. A
// file is one gzip member that holds one serialised message and nothing else.
// Equal messages give equal bytes: fields in the order of their numbers, no
// time in the gzip header.
//
// record.h and probe_record.h say it of their messages; others use those.

#ifndef MNEME_HARNESS_RECORD_FILE_H_
#define MNEME_HARNESS_RECORD_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace mneme {

// A message as the bytes of a file. InvalidArgument if its field `schema` is
// another than the given one, or a text in it is not UTF-8 and so could not be
// read back.
absl::StatusOr<std::string> FormatMessage(
    const google::protobuf::Message& message, int32_t schema);

// Sets the message to what is in a file's bytes. DataLoss if they are not
// exactly one of its kind: truncated, damaged (gzip's CRC-32 covers the
// message), followed by something, no such message, or of another schema.
absl::Status ParseMessage(absl::string_view bytes, int32_t schema,
                          google::protobuf::Message* message);

// As above, to and from files; written atomically. Messages name the file; also
// the errors of atomic_file.h.
absl::Status WriteMessage(const std::string& path,
                          const google::protobuf::Message& message,
                          int32_t schema);
absl::Status ReadMessage(const std::string& path, int32_t schema,
                         google::protobuf::Message* message);

// The message in a file, with ReadMessage's errors.
template <typename Message>
absl::StatusOr<Message> ReadMessageAs(const std::string& path, int32_t schema) {
  Message message;
  const absl::Status status = ReadMessage(path, schema, &message);
  if (!status.ok()) return status;
  return message;
}

}  // namespace mneme

#endif  // MNEME_HARNESS_RECORD_FILE_H_
