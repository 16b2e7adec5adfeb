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
#include "harness/throughput_record.h"
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

TEST(LoadRecords, KnowsThroughput) {
  const std::string directory = Directory();
  ASSERT_TRUE(WriteRecord(directory + "/a.record", OkCell("a", 0.5)).ok());
  ASSERT_TRUE(
      WriteThroughput(directory + "/quick/b.throughput", SpeedRecord("b", 1000))
          .ok());
  const auto records = LoadRecords({directory});
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_THAT(records->cells, SizeIs(1));
  ASSERT_THAT(records->throughput, SizeIs(1));
  EXPECT_EQ(records->throughput[0].variant(), "b");
  EXPECT_TRUE(LoadRecords({directory + "/quick"}).ok()) << "throughput alone";
}

TEST(LoadThroughput, TakesNothingElse) {
  const std::string directory = Directory();
  ASSERT_TRUE(WriteRecord(directory + "/a.record", OkCell("a", 0.5)).ok());
  EXPECT_EQ(Message(LoadThroughput({directory}).status()),
            "there is no *.throughput file in " + directory);
  const std::string file = directory + "/b.throughput";
  ASSERT_TRUE(WriteThroughput(file, SpeedRecord("b", 1000)).ok());
  const auto records = LoadThroughput({directory, file});
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_THAT(*records, SizeIs(2));
  EXPECT_TRUE(LoadThroughput({})->empty());
  const absl::Status missing =
      LoadThroughput({directory + "/c.throughput"}).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  ThroughputRecord odd = SpeedRecord("b", 1000);
  odd.mutable_measurements(0)->set_tokens_per_second(NAN);
  ASSERT_TRUE(WriteThroughput(file, odd).ok());
  EXPECT_EQ(Message(LoadThroughput({file}).status()),
            file + ": its tokens per second of prefill by mneme is none");
  ASSERT_TRUE(WriteFileAtomically(file, "no record").ok());
  const absl::Status damaged = LoadThroughput({file}).status();
  EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  EXPECT_THAT(Message(damaged), HasSubstr(file));
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

TEST(CheckThroughput, RefusesWhatNoRunCouldHaveWritten) {
  EXPECT_TRUE(CheckThroughput(SpeedRecord("a", 1000)).ok());
  ThroughputRecord errors = SpeedRecord("a", 1000);
  errors.clear_measurements();
  *errors.add_measurements() = NotTimed("mneme", "no luck");
  EXPECT_TRUE(CheckThroughput(errors).ok());
  const auto refused = [](void (*spoil)(ThroughputRecord&)) {
    ThroughputRecord record = SpeedRecord("a", 1000);
    spoil(record);
    return absl::IsDataLoss(CheckThroughput(record));
  };
  using Record = ThroughputRecord&;
  EXPECT_TRUE(refused([](Record r) { r.set_schema(2); }));
  EXPECT_TRUE(refused([](Record r) { r.clear_variant(); }));
  EXPECT_TRUE(
      refused([](Record r) { r.mutable_measurements(0)->set_phase("sleep"); }));
  EXPECT_TRUE(
      refused([](Record r) { r.mutable_measurements(0)->clear_contender(); }));
  EXPECT_TRUE(
      refused([](Record r) { r.mutable_measurements(0)->set_length(0); }));
  EXPECT_TRUE(
      refused([](Record r) { r.mutable_measurements(0)->set_threads(-1); }));
  EXPECT_TRUE(refused(
      [](Record r) { r.mutable_measurements(0)->set_milliseconds(0); }));
  EXPECT_TRUE(refused([](Record r) {
    r.mutable_measurements(0)->set_tokens_per_second(INFINITY);
  }));
  EXPECT_TRUE(refused([](Record r) { r.mutable_measurements(0)->set_cv(-1); }));
  EXPECT_TRUE(refused(
      [](Record r) { r.mutable_measurements(0)->set_fraction_of_limit(NAN); }));
  EXPECT_TRUE(refused(
      [](Record r) { r.mutable_measurements(0)->set_growth_exponent(NAN); }));
  EXPECT_TRUE(refused(
      [](Record r) { r.mutable_measurements(0)->set_state_bytes(-1); }));
  EXPECT_TRUE(refused([](Record r) { r.mutable_ceilings(0)->set_flops(-1); }));
  EXPECT_TRUE(
      refused([](Record r) { r.mutable_ceilings(0)->add_level_capacity(1); }));
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
