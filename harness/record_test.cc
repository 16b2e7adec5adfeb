// SPDX-License-Identifier: Apache-2.0

#include "harness/record.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/io/gzip_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "harness/atomic_file.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

// A record of the usual size, with something in each kind of field.
ResultRecord Sample() {
  ResultRecord record;
  record.set_schema(kRecordSchema);
  record.set_variant("softmax");
  record.set_family("attention");
  record.set_task("mqar");
  record.set_profile("quick");
  record.set_seed(std::numeric_limits<uint64_t>::max());
  record.set_status(STATUS_OK);
  Setting* setting = record.add_task_options();
  setting->set_name("alpha");
  setting->set_value("0.01");
  Metrics* metrics = record.mutable_metrics();
  metrics->set_accuracy(0.1 + 0.2);
  metrics->set_steps_to_90(0);  // present, though zero
  for (int i = 1; i <= 20; ++i) {
    CurvePoint* point = metrics->add_curve();
    point->set_step(50 * i);
    point->set_train_loss(std::sqrt(i));
    point->set_validation_accuracy(1.0 / i);
  }
  record.mutable_environment()->set_machine("CPU \xc2\xb5");
  record.set_state_bytes(int64_t{1} << 40);
  return record;
}

bool Equal(const ResultRecord& a, const ResultRecord& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

std::string Format(const ResultRecord& record) {
  const absl::StatusOr<std::string> bytes = FormatRecord(record);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.ok() ? *bytes : "";
}

std::string Error(absl::string_view bytes) {
  const absl::StatusOr<ResultRecord> record = ParseRecord(bytes);
  if (record.ok()) return "";
  EXPECT_EQ(record.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(absl::StrContains(record.status().message(), '\n'));
  return std::string(record.status().message());
}

// Any text as a gzip file, by protobuf's own writer.
std::string Gzip(const std::string& text) {
  std::string bytes;
  google::protobuf::io::StringOutputStream sink(&bytes);
  google::protobuf::io::GzipOutputStream gzip(&sink);
  google::protobuf::io::CodedOutputStream coded(&gzip);
  coded.WriteString(text);
  coded.Trim();
  gzip.Close();
  return bytes;
}

TEST(RecordTest, RecordsComeBack) {
  const absl::StatusOr<ResultRecord> record = ParseRecord(Format(Sample()));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(Equal(*record, Sample())) << record->DebugString();
  EXPECT_TRUE(record->metrics().has_steps_to_90());
  EXPECT_EQ(record->metrics().accuracy(), 0.1 + 0.2);
}

TEST(RecordTest, NonFiniteNumbersComeBack) {
  ResultRecord record = Sample();
  record.mutable_metrics()->set_loss(std::numeric_limits<double>::infinity());
  record.mutable_metrics()->set_accuracy_stderr(std::nan(""));
  const absl::StatusOr<ResultRecord> read = ParseRecord(Format(record));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(std::isinf(read->metrics().loss()));
  EXPECT_TRUE(std::isnan(read->metrics().accuracy_stderr()));
}

TEST(RecordTest, EqualRecordsAreEqualBytesWithoutATime) {
  const std::string bytes = Format(Sample());
  EXPECT_EQ(bytes, Format(Sample()));
  // Magic, deflate, no flags, no modification time.
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x1f\x8b\x08\0\0\0\0\0", 8));
  // Smaller than what is in it.
  EXPECT_LT(bytes.size(), Sample().ByteSizeLong());
}

TEST(RecordTest, EveryTruncationIsFound) {
  const std::string bytes = Format(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(Error(absl::string_view(bytes).substr(0, size)),
              absl::StrCat("truncated after ", size, " bytes"));
  }
}

TEST(RecordTest, WhateverFollowsIsFound) {
  const std::string bytes = Format(Sample());
  for (int c = 0; c < 256; ++c) {
    EXPECT_EQ(Error(bytes + static_cast<char>(c)),
              "1 bytes follow the end of the record");
  }
  // gzip itself would take members one after the other for one file.
  EXPECT_EQ(Error(bytes + bytes),
            absl::StrCat(bytes.size(), " bytes follow the end of the record"));
}

// What gzip's header says of time and system, and the bits that fill up the
// last byte before the trailer, no checksum covers; they are not part of the
// record.
TEST(RecordTest, NoChangeOfAByteChangesTheRecord) {
  const std::string bytes = Format(Sample());
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int change :
         {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      std::string changed = bytes;
      changed[at] ^= change;
      const absl::StatusOr<ResultRecord> record = ParseRecord(changed);
      if (!record.ok()) continue;
      EXPECT_TRUE(Equal(*record, Sample()));
      const bool uncovered = (3 <= at && at < 10) || at == bytes.size() - 9;
      EXPECT_TRUE(uncovered) << "not found at byte " << at;
    }
  }
}

TEST(RecordTest, OtherFilesAreRefused) {
  EXPECT_THAT(Error("some text, and more of it"),
              HasSubstr("damaged: incorrect header check"));
  EXPECT_EQ(Error(Gzip("some text, and more of it")),
            "holds no mneme.ResultRecord");
  // An empty message is a record of schema 0.
  EXPECT_EQ(Error(Gzip("")), "is a record of schema 0, this program reads 1");
  EXPECT_THAT(Error(Gzip(std::string(17 << 20, 'x'))),
              HasSubstr("unpacks to more than"));
}

TEST(RecordTest, OtherSchemasAreRefused) {
  ResultRecord record = Sample();
  record.set_schema(2);
  EXPECT_EQ(FormatRecord(record).status(),
            absl::InvalidArgumentError(
                "cannot write a record of schema 2, only of 1"));
  EXPECT_EQ(Error(Gzip(record.SerializeAsString())),
            "is a record of schema 2, this program reads 1");
}

// A later version of the same schema may add fields.
TEST(RecordTest, UnknownFieldsAreNoDamage) {
  ResultRecord record = Sample();
  record.GetReflection()->MutableUnknownFields(&record)->AddVarint(999, 7);
  EXPECT_EQ(Error(Format(record)), "");
}

TEST(RecordTest, TextThatCouldNotBeReadBackIsNotWritten) {
  ResultRecord record = Sample();
  record.set_status_message("\xff\xfe");
  testing::internal::CaptureStderr();
  const absl::Status status = FormatRecord(record).status();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("UTF-8"));
}

TEST(RecordTest, FilesComeBackAndErrorsNameThem) {
  const std::string path = absl::StrCat(testing::TempDir(), "/test.record");
  ASSERT_EQ(WriteRecord(path, Sample()), absl::OkStatus());
  const absl::StatusOr<ResultRecord> record = ReadRecord(path);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_TRUE(Equal(*record, Sample()));

  EXPECT_EQ(WriteRecord(path, ResultRecord()).message(),
            path + ": cannot write a record of schema 0, only of 1");
  EXPECT_TRUE(ReadRecord(path).ok()) << "the old file should still be there";
  EXPECT_EQ(ReadRecord(path + "x").status(),
            absl::NotFoundError("cannot read " + path +
                                "x: No such file or directory"));
  ASSERT_EQ(WriteFileAtomically(path, Format(Sample()).substr(0, 100)),
            absl::OkStatus());
  EXPECT_EQ(ReadRecord(path).status(),
            absl::DataLossError(path + ": truncated after 100 bytes"));
}

}  // namespace
}  // namespace mneme
