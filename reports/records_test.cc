// SPDX-License-Identifier: Apache-2.0

#include "reports/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "harness/atomic_file.h"
#include "harness/probe_record.h"
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
  ASSERT_THAT(records->cells, SizeIs(2));
  EXPECT_EQ(records->cells[0].variant(), "a");
  EXPECT_THAT(LoadRecords({directory + "/quick/b.record", directory})->cells,
              SizeIs(3));
}

TEST(LoadRecords, TellsProbesFromCells) {
  const std::string directory = Directory();
  ASSERT_TRUE(WriteRecord(directory + "/a.record", OkCell("a", 0.5)).ok());
  ASSERT_TRUE(
      WriteProbe(directory + "/quick/b.probe", CapacityProbe("b", 0.5)).ok());
  for (const auto& records :
       {LoadRecords({directory}),
        LoadRecords({directory + "/quick/b.probe", directory + "/a.record"})}) {
    ASSERT_TRUE(records.ok()) << records.status();
    EXPECT_THAT(records->cells, SizeIs(1));
    ASSERT_THAT(records->probes, SizeIs(1));
    EXPECT_EQ(records->probes[0].variant(), "b");
  }
  EXPECT_TRUE(LoadRecords({directory + "/quick"}).ok()) << "probes alone";
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

TEST(CheckRecord, RefusesLengthsNoRunCouldHaveWritten) {
  EXPECT_TRUE(CheckRecord(LengthsCell("a", 0.5)).ok());
  EXPECT_TRUE(CheckRecord(LengthsCell("a", 0.5, 0, 128)).ok());
  const auto refused = [](void (*spoil)(Metrics&)) {
    ResultRecord record = LengthsCell("a", 0.5);
    spoil(*record.mutable_metrics());
    return absl::IsDataLoss(CheckRecord(record));
  };
  using M = Metrics&;
  EXPECT_TRUE(refused([](M m) { m.mutable_lengths(1)->set_length(64); }));
  EXPECT_TRUE(refused([](M m) { m.mutable_lengths(1)->set_accuracy(NAN); }));
  EXPECT_TRUE(refused([](M m) { m.mutable_lengths(1)->set_loss(-1); }));
  EXPECT_TRUE(refused(
      [](M m) { m.mutable_lengths(0)->mutable_depths(39)->set_depth(40); }));
  EXPECT_TRUE(refused(
      [](M m) { m.mutable_lengths(0)->mutable_depths(1)->set_depth(0); }));
  EXPECT_TRUE(refused(
      [](M m) { m.mutable_lengths(0)->mutable_depths(1)->set_accuracy(2); }));
  EXPECT_TRUE(refused([](M m) {
    m.mutable_lengths(0)->mutable_loss_by_position(1)->set_first(0);
  }));
  EXPECT_TRUE(refused([](M m) {
    m.mutable_lengths(0)->mutable_loss_by_position(1)->set_loss(INFINITY);
  }));
  EXPECT_TRUE(refused(
      [](M m) { m.mutable_lengths(0)->mutable_details(0)->set_value(NAN); }));
  EXPECT_TRUE(refused([](M m) { m.mutable_references(1)->set_bytes(1024); }));
  EXPECT_TRUE(refused([](M m) { m.mutable_references(1)->set_table(1.5); }));
}

TEST(CheckProbe, RefusesWhatNoProbeCouldHaveWritten) {
  EXPECT_TRUE(CheckProbe(CapacityProbe("a", 0.5)).ok());
  EXPECT_TRUE(CheckProbe(CapacityProbe("a", 16)).ok());
  EXPECT_TRUE(CheckProbe(ApproximationProbe("a", "features")).ok());
  EXPECT_TRUE(CheckProbe(UnsupportedProbe("a", "has no memory")).ok());
  const auto refused = [](void (*spoil)(ProbeRecord&)) {
    ProbeRecord record = CapacityProbe("a", 0.5);
    *record.add_approximation() =
        ApproximationProbe("a", "features").approximation(0);
    EXPECT_TRUE(CheckProbe(record).ok());
    spoil(record);
    return absl::IsDataLoss(CheckProbe(record));
  };
  using Record = ProbeRecord&;
  EXPECT_TRUE(refused([](Record r) { r.set_schema(2); }));
  EXPECT_TRUE(refused([](Record r) { r.clear_variant(); }));
  EXPECT_TRUE(refused([](Record r) { r.mutable_capacity(0)->clear_points(); }));
  EXPECT_TRUE(refused([](Record r) { r.mutable_capacity(0)->set_key_dim(0); }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_capacity(0)->mutable_points(1)->set_pairs(1);
  }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_capacity(0)->mutable_points(1)->mutable_recall()->set_low(-1);
  }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_capacity(0)->mutable_points(1)->mutable_cosine()->set_mean(NAN);
  }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_capacity(0)->mutable_pairs_at_90()->set_high(INFINITY);
  }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_approximation(0)->mutable_points(0)->set_size(-1);
  }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_approximation(0)->mutable_points(0)->mutable_error()->set_mean(
        -1);
  }));
}

// Records that are kept with the sources can still be read and shown.
TEST(LoadRecords, ReadsThePublishedOnes) {
  const absl::StatusOr<Records> records =
      LoadRecords({"reports/published/zoology"});
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_THAT(records->cells, SizeIs(testing::Ge(8)));
  for (const ResultRecord& record : records->cells) {
    EXPECT_EQ(record.status(), STATUS_OK);
    EXPECT_EQ(record.profile(), "published/zoology");
  }
}

}  // namespace
}  // namespace mneme
