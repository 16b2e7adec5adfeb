// SPDX-License-Identifier: Apache-2.0

#include "harness/record_file.h"

#include <zlib.h>

#include <cstddef>
#include <memory>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/gzip_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/stubs/logging.h"
#include "harness/atomic_file.h"

namespace mneme {
namespace {

// A record with a curve of 1,000 points is 50 kB. What is hundreds of times as
// large is something else, or made to exhaust the memory of who unpacks it.
constexpr size_t kMaxUnpackedBytes = size_t{16} << 20;
constexpr int64_t kMaxPackedBytes = int64_t{16} << 20;

// Protobuf reports, for one, texts that are not UTF-8 on stderr; we return a
// status.
using QuietProtobuf = google::protobuf::LogSilencer;

using ::google::protobuf::Message;

std::string Gzip(const Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream sink(&bytes);
  google::protobuf::io::GzipOutputStream::Options options;
  options.format = google::protobuf::io::GzipOutputStream::GZIP;
  options.compression_level = Z_BEST_COMPRESSION;
  google::protobuf::io::GzipOutputStream gzip(&sink, options);
  {
    google::protobuf::io::CodedOutputStream coded(&gzip);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  gzip.Close();
  return bytes;
}

// Unpacks one gzip member that takes all of bytes. Not by GzipInputStream: to
// it a truncated file ends like a whole one, and one member after another reads
// as one.
absl::StatusOr<std::string> Gunzip(absl::string_view bytes) {
  constexpr int kGzipOnly = 16;  // added to the size of the window
  z_stream stream = {};
  if (inflateInit2(&stream, MAX_WBITS + kGzipOnly) != Z_OK) {
    return absl::ResourceExhaustedError("no memory to unpack");
  }
  const absl::Cleanup ender = [&stream] { inflateEnd(&stream); };
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = bytes.size();
  std::string unpacked;
  int result = Z_OK;
  while (result == Z_OK) {
    char chunk[16384];
    stream.next_out = reinterpret_cast<Bytef*>(chunk);
    stream.avail_out = sizeof(chunk);
    result = inflate(&stream, Z_NO_FLUSH);
    unpacked.append(chunk, sizeof(chunk) - stream.avail_out);
    if (unpacked.size() > kMaxUnpackedBytes) {
      return absl::DataLossError(absl::StrCat("unpacks to more than ",
                                              kMaxUnpackedBytes,
                                              " bytes; no record does"));
    }
  }
  // Without more input zlib cannot go on: the file should.
  if (result == Z_BUF_ERROR) {
    return absl::DataLossError(
        absl::StrCat("truncated after ", bytes.size(), " bytes"));
  }
  if (result != Z_STREAM_END) {
    return absl::DataLossError(absl::StrCat(
        "damaged: ", stream.msg == nullptr ? zError(result) : stream.msg));
  }
  if (stream.avail_in > 0) {
    return absl::DataLossError(
        absl::StrCat(stream.avail_in, " bytes follow the end of the record"));
  }
  return unpacked;
}

// The field `schema`, which every kind of record has.
int32_t SchemaOf(const Message& message) {
  const google::protobuf::FieldDescriptor* field =
      message.GetDescriptor()->FindFieldByName("schema");
  return message.GetReflection()->GetInt32(message, field);
}

absl::Status WithPath(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::string> FormatMessage(const Message& message,
                                          int32_t schema) {
  if (SchemaOf(message) != schema) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write a record of schema ", SchemaOf(message),
                     ", only of ", schema));
  }
  const QuietProtobuf quiet;
  std::string bytes = Gzip(message);
  const std::unique_ptr<Message> read_back(message.New());
  const absl::Status status = ParseMessage(bytes, schema, read_back.get());
  if (!status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the record cannot be read back, is all its text UTF-8? ",
                     status.message()));
  }
  return bytes;
}

absl::Status ParseMessage(absl::string_view bytes, int32_t schema,
                          Message* message) {
  const absl::StatusOr<std::string> unpacked = Gunzip(bytes);
  if (!unpacked.ok()) return unpacked.status();
  const QuietProtobuf quiet;
  if (!message->ParseFromString(*unpacked)) {
    return absl::DataLossError(
        absl::StrCat("holds no ", message->GetDescriptor()->full_name()));
  }
  if (SchemaOf(*message) != schema) {
    return absl::DataLossError(absl::StrCat("is a record of schema ",
                                            SchemaOf(*message),
                                            ", this program reads ", schema));
  }
  return absl::OkStatus();
}

absl::Status WriteMessage(const std::string& path, const Message& message,
                          int32_t schema) {
  const absl::StatusOr<std::string> bytes = FormatMessage(message, schema);
  if (!bytes.ok()) return WithPath(path, bytes.status());
  return WriteFileAtomically(path, *bytes);
}

absl::Status ReadMessage(const std::string& path, int32_t schema,
                         Message* message) {
  const absl::StatusOr<std::string> bytes = ReadFile(path, kMaxPackedBytes);
  if (!bytes.ok()) return bytes.status();
  const absl::Status status = ParseMessage(*bytes, schema, message);
  return status.ok() ? status : WithPath(path, status);
}

}  // namespace mneme
