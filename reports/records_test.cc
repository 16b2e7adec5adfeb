// SPDX-License-Identifier: Apache-2.0

#include "reports/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "harness/atomic_file.h"
#include "harness/record.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

// An empty directory of the running test's own.
std::string Directory() {
  const std::string path =
      testing::TempDir() + "/" +
      testing::UnitTest::GetInstance()->current_test_info()->name();
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path + "/quick");
  return path;
}

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

TEST(LoadRecords, SearchesDirectoriesInOrder) {
  const std::string directory = Directory();
  ASSERT_TRUE(
      WriteRecord(directory + "/quick/b.record", OkCell("b", 0.5)).ok());
  ASSERT_TRUE(
      WriteRecord(directory + "/quick/a.record", OkCell("a", 0.5)).ok());
  ASSERT_TRUE(WriteFileAtomically(directory + "/notes.txt", "hello").ok());
  const auto records = LoadRecords({directory});
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_THAT(*records, SizeIs(2));
  EXPECT_EQ((*records)[0].variant(), "a");
  EXPECT_THAT(*LoadRecords({directory + "/quick/b.record", directory}),
              SizeIs(3));
}

TEST(LoadRecords, NamesWhatIsMissing) {
  const std::string directory = Directory();
  const absl::Status empty = LoadRecords({directory}).status();
  EXPECT_TRUE(absl::IsNotFound(empty));
  EXPECT_THAT(Message(empty), HasSubstr(directory));
  const absl::Status missing = LoadRecords({directory + "/x.record"}).status();
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(Message(missing), HasSubstr("x.record"));
}

TEST(LoadRecords, NamesWhatIsDamaged) {
  const std::string file = Directory() + "/half.record";
  const auto bytes = FormatRecord(OkCell("a", 0.5));
  ASSERT_TRUE(bytes.ok());
  ASSERT_TRUE(WriteFileAtomically(file, bytes->substr(0, 40)).ok());
  const absl::Status status = LoadRecords({file}).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr(file));
}

TEST(LoadRecords, NamesTheFileOfAnImpossibleRecord) {
  const std::string file = Directory() + "/odd.record";
  ASSERT_TRUE(WriteRecord(file, OkCell("a", 1.5)).ok());
  EXPECT_EQ(Message(LoadRecords({file}).status()),
            file + ": its accuracy 1.5 is not in [0, 1]");
}

TEST(CheckRecord, RefusesWhatNoRunCouldHaveWritten) {
  EXPECT_TRUE(CheckRecord(OkCell("a", 0.5)).ok());
  EXPECT_TRUE(CheckRecord(DivergedCell("a")).ok());
  const auto refused = [](void (*spoil)(ResultRecord&)) {
    ResultRecord record = OkCell("a", 0.5);
    spoil(record);
    return absl::IsDataLoss(CheckRecord(record));
  };
  EXPECT_TRUE(refused([](ResultRecord& r) { r.set_schema(2); }));
  EXPECT_TRUE(refused([](ResultRecord& r) { r.clear_variant(); }));
  EXPECT_TRUE(refused([](ResultRecord& r) { r.clear_task(); }));
  EXPECT_TRUE(refused([](ResultRecord& r) { r.clear_profile(); }));
  EXPECT_TRUE(
      refused([](ResultRecord& r) { r.mutable_metrics()->set_accuracy(NAN); }));
  EXPECT_TRUE(refused(
      [](ResultRecord& r) { r.mutable_metrics()->set_accuracy_stderr(-1); }));
  EXPECT_TRUE(refused([](ResultRecord& r) {
    r.mutable_metrics()->set_accuracy_stderr(INFINITY);
  }));
  EXPECT_TRUE(refused([](ResultRecord& r) {
    r.mutable_metrics()->mutable_curve(0)->set_validation_accuracy(2);
  }));
}

}  // namespace
}  // namespace mneme
