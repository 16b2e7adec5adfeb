// SPDX-License-Identifier: Apache-2.0

#include "reports/speed_results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "reports/boards.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

Leaderboard Measured(std::vector<ThroughputRecord> records) {
  return MakeLeaderboard({}, {}, std::move(records));
}

ThroughputMeasurement& Measurement(ThroughputRecord& record,
                                   const std::string& phase) {
  for (ThroughputMeasurement& m : *record.mutable_measurements()) {
    if (m.phase() == phase) return m;
  }
  return *record.add_measurements();
}

// Without the context lengths of SpeedRecord: in the suite's own shape alone.
ThroughputRecord OneShape(const std::string& variant, double speed) {
  ThroughputRecord record = SpeedRecord(variant, speed);
  record.mutable_measurements()->DeleteSubrange(2, 2);
  record.mutable_measurements()->DeleteSubrange(0, 1);
  record.mutable_measurements(0)->clear_growth_exponent();
  return record;
}

TEST(Speeds, TheNewestMeasurementCounts) {
  ThroughputRecord newer = SpeedRecord("linear", 2000);
  newer.mutable_environment()->set_date("2025-12-24T00:00:00Z");
  const Leaderboard leaderboard =
      Measured({newer, SpeedRecord("linear", 1000)});
  ASSERT_THAT(leaderboard.speeds, SizeIs(1));
  EXPECT_THAT(leaderboard.speeds[0].records, SizeIs(1));
  EXPECT_EQ(leaderboard.superseded, 1);
  const SpeedSummary summary = Summarise(leaderboard.speeds);
  EXPECT_EQ(summary.rows[0].phases[0]->tokens_per_second(), 2000);
}

TEST(Speeds, RunsOfOtherShapesComplementEachOther) {
  ThroughputRecord newer = OneShape("linear", 2000);
  newer.mutable_environment()->set_date("2025-12-24T00:00:00Z");
  newer.mutable_measurements()->DeleteSubrange(1, 4);
  const Leaderboard leaderboard =
      Measured({newer, SpeedRecord("linear", 1000)});
  ASSERT_THAT(leaderboard.speeds, SizeIs(1));
  ASSERT_THAT(leaderboard.speeds[0].records, SizeIs(2));
  EXPECT_EQ(leaderboard.superseded, 1) << "of one length there is a newer one";
  const auto series = LengthSeriesOf(leaderboard.speeds);
  ASSERT_THAT(series, SizeIs(1));
  ASSERT_THAT(series[0].lines[0].points, SizeIs(4));
  EXPECT_EQ(series[0].lines[0].points[0]->tokens_per_second(), 1000);
  EXPECT_EQ(series[0].lines[0].points[1]->tokens_per_second(), 2000);
}

TEST(Speeds, ANewerErrorStandsForWhatWasTimed) {
  ThroughputRecord newer = SpeedRecord("linear", 2000);
  newer.clear_measurements();
  *newer.add_measurements() = NotTimed("mneme", "it is wrong");
  newer.mutable_environment()->set_date("2025-12-24T00:00:00Z");
  const Leaderboard leaderboard = Measured({SpeedRecord("linear", 1), newer});
  const SpeedSummary summary = Summarise(leaderboard.speeds);
  // The suite's own shape was timed nowhere any more.
  EXPECT_EQ(summary.columns[0].setup.Title(), "1x8192x8x64");
}

TEST(Speeds, OptionsAreToldApart) {
  ThroughputRecord wide = SpeedRecord("linear", 1000);
  wide.mutable_variant_options(0)->set_value("4");
  const Leaderboard leaderboard =
      Measured({SpeedRecord("linear", 1000), wide, SpeedRecord("softmax", 1)});
  ASSERT_THAT(leaderboard.speeds, SizeIs(3));
  EXPECT_EQ(leaderboard.superseded, 0);
  EXPECT_EQ(leaderboard.speeds[0].variant, "linear (heads=2)");
  EXPECT_EQ(leaderboard.speeds[1].variant, "linear (heads=4)");
  EXPECT_THAT(leaderboard.variants, ElementsAre("linear", "softmax"));
  EXPECT_EQ(leaderboard.speeds[2].variant_index, 1);
}

TEST(Speeds, NeedNotBeKnown) {
  EXPECT_TRUE(Measured({}).IsComplete());
  ThroughputRecord errors;
  errors.set_variant("linear");
  *errors.add_measurements() = NotTimed("mneme", "no luck");
  EXPECT_TRUE(Measured({errors}).IsComplete());
}

TEST(MainSetup, IsOfMostVariants) {
  ThroughputRecord odd = OneShape("softmax", 1000);
  odd.mutable_measurements(0)->set_length(77);
  const Leaderboard one = Measured({OneShape("a", 1), OneShape("b", 1), odd});
  EXPECT_EQ(MainSetup(one.speeds, Phase::kPrefill)->length, 2048);
  const Leaderboard other = Measured({OneShape("a", 1), odd, [&odd] {
                                        ThroughputRecord third = odd;
                                        third.set_variant("third");
                                        return third;
                                      }()});
  EXPECT_EQ(MainSetup(other.speeds, Phase::kPrefill)->length, 77);
  EXPECT_FALSE(MainSetup({}, Phase::kPrefill).has_value());
}

TEST(MainSetup, IsOfOneThreadInTheSuitesOwnShape) {
  ThroughputRecord record = SpeedRecord("linear", 1000);
  ThroughputMeasurement faster = record.measurements(1);
  faster.set_threads(2);
  *record.add_measurements() = faster;
  const Leaderboard leaderboard = Measured({record});
  const SpeedSetup setup = *MainSetup(leaderboard.speeds, Phase::kPrefill);
  EXPECT_EQ(setup.Title(), "1x2048x8x64");
  EXPECT_EQ(SetupOf(faster).Title(), "1x2048x8x64, 2 threads");
  faster.set_form("parallel");
  EXPECT_EQ(SetupOf(faster).Title(), "1x2048x8x64, parallel form, 2 threads");
}

TEST(Summary, HasTheFastestFirstAndWhatWasNotTimedLast) {
  ThroughputRecord errors = OneShape("a", 1);
  errors.clear_measurements();
  *errors.add_measurements() = NotTimed("mneme", "no luck");
  const Leaderboard leaderboard =
      Measured({errors, SpeedRecord("b", 1000), SpeedRecord("c", 3000)});
  const SpeedSummary summary = Summarise(leaderboard.speeds);
  ASSERT_THAT(summary.columns, SizeIs(4));
  ASSERT_THAT(summary.rows, SizeIs(3));
  EXPECT_EQ(summary.rows[0].speed->variant, "c");
  EXPECT_EQ(summary.rows[0].state_bytes, 16384);
  EXPECT_EQ(summary.rows[0].growth, 1);
  EXPECT_EQ(summary.state_tokens, 4096);
  EXPECT_EQ(summary.rows[2].speed->variant, "a");
  EXPECT_EQ(summary.rows[2].phases[0]->error(), "no luck");
  EXPECT_EQ(summary.rows[2].phases[1], nullptr);
  EXPECT_FALSE(summary.rows[2].state_bytes.has_value());
  EXPECT_FALSE(summary.rows[2].growth.has_value());
}

TEST(Summary, OfErrorsAloneHasTheirReasons) {
  ThroughputRecord errors = OneShape("a", 1);
  errors.clear_measurements();
  *errors.add_measurements() = NotTimed("mneme", "no luck");
  const Leaderboard leaderboard = Measured({errors});
  const SpeedSummary summary = Summarise(leaderboard.speeds);
  EXPECT_THAT(summary.columns, IsEmpty());
  const auto untimed = WhyUntimed(leaderboard.speeds, summary);
  ASSERT_THAT(untimed, SizeIs(1));
  EXPECT_EQ(untimed[0].reason, "no luck");
  EXPECT_THAT(untimed[0].what, ElementsAre("a (prefill, 1x2048x8x64)"));
  EXPECT_THAT(LengthSeriesOf(leaderboard.speeds), IsEmpty());
}

TEST(WhyUntimed, LeavesShapesThatAreNotShownToTheTables) {
  ThroughputRecord record = SpeedRecord("a", 1000);
  *record.add_measurements() = NotTimed("mneme", "too long");
  record.mutable_measurements()->rbegin()->set_length(1 << 20);
  *record.add_measurements() = NotTimed("onednn", "it is wrong");
  const Leaderboard leaderboard = Measured({record});
  const auto untimed =
      WhyUntimed(leaderboard.speeds, Summarise(leaderboard.speeds));
  ASSERT_THAT(untimed, SizeIs(1));
  EXPECT_THAT(untimed[0].what, ElementsAre("a (prefill, 1x2048x8x64, onednn)"));
}

TEST(FractionText, SaysWhatIsNotGood) {
  ThroughputRecord record = SpeedRecord("a", 1000);
  EXPECT_EQ(FractionText(Measurement(record, "prefill")), "50% of limit");
  EXPECT_EQ(FractionText(Measurement(record, "train")), "10% without mixer");
  Measurement(record, "prefill").set_noisy(true);
  EXPECT_EQ(FractionText(Measurement(record, "prefill")),
            "50% of limit, noisy");
}

TEST(LengthSeries, AreAlikeInAllElse) {
  ThroughputRecord record = SpeedRecord("a", 1000);
  ThroughputMeasurement more_heads = record.measurements(0);
  more_heads.set_heads(16);
  *record.add_measurements() = more_heads;
  ThroughputMeasurement decode = Measurement(record, "decode");
  decode.set_length(8192);
  *record.add_measurements() = decode;
  const Leaderboard leaderboard =
      Measured({record, OneShape("b", 1), SpeedRecord("c", 1)});
  const auto series = LengthSeriesOf(leaderboard.speeds);
  ASSERT_THAT(series, SizeIs(2));
  EXPECT_EQ(series[0].Title(), "prefill, 1xTx8x64");
  ASSERT_THAT(series[0].lines, SizeIs(2)) << "b has one length";
  EXPECT_EQ(series[0].lines[1].speed->variant, "c");
  EXPECT_EQ(series[0].lines[0].points[3]->length(), 8192);
  EXPECT_EQ(series[1].Title(), "decode, 1xTx8x64");
}

TEST(Peers, AreComparedWithWhatIsAlike) {
  ThroughputRecord record = SpeedRecord("a", 1000);
  ThroughputMeasurement peer = record.measurements(1);
  peer.set_contender("onednn");
  peer.set_milliseconds(3 * peer.milliseconds());
  *record.add_measurements() = peer;
  peer.set_threads(2);
  *record.add_measurements() = peer;
  *record.add_measurements() = NotTimed("openblas", "it is wrong");
  const Leaderboard leaderboard = Measured({record});
  const std::vector<Peer> peers = PeersOf(leaderboard.speeds);
  ASSERT_THAT(peers, SizeIs(2)) << "a backbone is no peer";
  EXPECT_DOUBLE_EQ(*peers[0].ratio(), 3);
  EXPECT_FALSE(peers[1].ratio().has_value());
}

TEST(Ceilings, AreRangesOverRecords) {
  ThroughputRecord slower = SpeedRecord("b", 1000);
  slower.mutable_ceilings(0)->set_flops(5e10);
  *slower.add_ceilings() = slower.ceilings(0);
  slower.mutable_ceilings(1)->set_threads(2);
  const Leaderboard leaderboard = Measured({slower, SpeedRecord("a", 1000)});
  const auto ceilings = CeilingsOf(leaderboard.speeds);
  ASSERT_THAT(ceilings, SizeIs(20)) << "without units that are not there";
  EXPECT_EQ(ceilings[0].name, "float32 multiply-adds");
  EXPECT_EQ(ceilings[0].median, 75);
  EXPECT_EQ(ceilings[0].low, 50);
  EXPECT_EQ(ceilings[0].high, 100);
  EXPECT_EQ(ceilings[5].name, "DRAM reads");
  EXPECT_EQ(ceilings[11].threads, 2);
}

}  // namespace
}  // namespace mneme
