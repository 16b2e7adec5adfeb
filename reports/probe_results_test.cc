// SPDX-License-Identifier: Apache-2.0

#include "reports/probe_results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "reports/boards.h"
#include "reports/format.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<std::string> Names(const std::vector<Probe>& probes) {
  std::vector<std::string> names;
  for (const Probe& probe : probes) names.push_back(probe.variant);
  return names;
}

std::vector<std::string> Names(const std::vector<const Probe*>& probes) {
  std::vector<std::string> names;
  for (const Probe* probe : probes) names.push_back(probe->variant);
  return names;
}

TEST(Probes, TheNewestOfEachCounts) {
  ProbeRecord newer = CapacityProbe("linear", 0.5);
  newer.mutable_environment()->set_date("2025-12-24T00:00:00Z");
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {newer, CapacityProbe("linear", 0.25)});
  ASSERT_THAT(leaderboard.probes, SizeIs(1));
  EXPECT_EQ(leaderboard.superseded, 1);
  EXPECT_EQ(leaderboard.probes[0].record.capacity(0).pairs_at_90().mean(), 8);
}

TEST(Probes, CapacitiesAndApproximationsMayStandApart) {
  ProbeRecord approximation = ApproximationProbe("performer", "features");
  approximation.mutable_environment()->set_date("2025-12-24T00:00:00Z");
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {approximation, CapacityProbe("performer", 0.25)});
  ASSERT_THAT(leaderboard.probes, SizeIs(1));
  EXPECT_EQ(leaderboard.superseded, 0);
  EXPECT_THAT(leaderboard.probes[0].record.capacity(), SizeIs(2));
  EXPECT_THAT(leaderboard.probes[0].record.approximation(), SizeIs(1));
}

TEST(Probes, AreNamedByWhatTellsThemApart) {
  ProbeRecord wide = CapacityProbe("linear", 0.5);
  wide.mutable_variant_options(0)->set_value("4");
  ProbeRecord other_seed = CapacityProbe("softmax", 16);
  other_seed.set_seed(7);
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("mean", 0.1)},
      {wide, other_seed, CapacityProbe("linear", 0.25),
       CapacityProbe("softmax", 16), FailedProbe("deltanet", "no luck")});
  EXPECT_THAT(Names(leaderboard.probes),
              ElementsAre("deltanet", "linear (heads=2)", "linear (heads=4)",
                          "softmax (seed=0)", "softmax (seed=7)"));
  // Rows and probes share their colours and markers.
  EXPECT_THAT(leaderboard.variants,
              ElementsAre("deltanet", "linear", "mean", "softmax"));
  EXPECT_EQ(leaderboard.probes[4].variant_index, 3);
}

TEST(Probes, AFailureIsNoResultAndARefusalIs) {
  EXPECT_TRUE(MakeLeaderboard({}, {UnsupportedProbe("a", "has no memory")})
                  .IsComplete());
  EXPECT_FALSE(MakeLeaderboard({}, {FailedProbe("a", "no luck")}).IsComplete());
}

TEST(Probes, HaveAContextOfTheirOwn) {
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {CapacityProbe("linear", 0.5)});
  const Context& context = leaderboard.probe_context;
  EXPECT_EQ(context.Field("simd_target").values[0].value, "AVX2");
  EXPECT_EQ(context.date, "2025-11-22T04:05:06Z");
  EXPECT_THAT(context.Field("threads").values, IsEmpty());
  EXPECT_THAT(leaderboard.context.Field("simd_target").values, IsEmpty());
}

TEST(WhyUnprobed, SharesReasons) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {}, {UnsupportedProbe("b", "has no memory"), FailedProbe("c", "no luck"),
           UnsupportedProbe("a", "has no memory"), CapacityProbe("d", 0.5)});
  const std::vector<Unprobed> unprobed = WhyUnprobed(leaderboard.probes);
  ASSERT_THAT(unprobed, SizeIs(2));
  EXPECT_EQ(unprobed[0].reason, "has no memory");
  EXPECT_THAT(unprobed[0].variants, ElementsAre("a", "b"));
  EXPECT_EQ(unprobed[1].reason, "failed: no luck");
}

TEST(Capacity, WhatWasNeverFilledHoldsMost) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {}, {CapacityProbe("additive", 0.25), CapacityProbe("softmax", 16),
           CapacityProbe("delta", 1), ApproximationProbe("other", "blocks")});
  EXPECT_THAT(Names(ByCapacity(leaderboard.probes)),
              ElementsAre("softmax", "delta", "additive"));
}

TEST(Capacity, SetupsAreToldApart) {
  ProbeRecord record = CapacityProbe("delta", 0.5);
  CapacityCurve& correlated = *record.add_capacity();
  correlated = record.capacity(1);
  correlated.set_keys("correlated");
  correlated.set_passes(4);
  correlated.mutable_pairs_at_90()->set_mean(73);
  record.mutable_capacity(0)->set_keys("random");
  record.mutable_capacity(0)->set_passes(1);
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {record, CapacityProbe("additive", 0.25)});
  const std::vector<CapacitySetup> setups = CapacitySetups(leaderboard.probes);
  ASSERT_THAT(setups, SizeIs(3));
  EXPECT_EQ(setups[0].Title(), "16");
  EXPECT_EQ(setups[1].Title(), "64");
  EXPECT_EQ(setups[2].Title(), "64, correlated keys, 4 passes");
  EXPECT_EQ(MainSetup(setups), 1);
  const Probe& delta = leaderboard.probes[1];
  EXPECT_EQ(CurveAt(delta, setups[1])->pairs_at_90().mean(), 32);
  EXPECT_EQ(CurveAt(delta, setups[2])->pairs_at_90().mean(), 73);
  EXPECT_EQ(CurveAt(leaderboard.probes[0], setups[2]), nullptr);
}

TEST(Capacity, IsSaidWithItsBounds) {
  const ProbeRecord delta = CapacityProbe("delta", 0.5);
  EXPECT_EQ(PairsText(delta.capacity(1)), "32.0");
  EXPECT_EQ(PairsIntervalText(delta.capacity(1)), "30.4-33.6");
  EXPECT_EQ(PairsPerKibText(delta.capacity(1)), "2.00");  // 32 in 16 KiB

  const ProbeRecord softmax = CapacityProbe("softmax", 16);
  EXPECT_EQ(PairsText(softmax.capacity(1)), "≥512");
  EXPECT_EQ(PairsIntervalText(softmax.capacity(1)), "");
  EXPECT_EQ(PairsPerKibText(softmax.capacity(1)), "≥32.0");
  EXPECT_FALSE(PairsPerKib(softmax.capacity(1)).has_value());

  CapacityCurve open = delta.capacity(1);
  open.mutable_pairs_at_90()->set_high(std::numeric_limits<double>::infinity());
  EXPECT_EQ(PairsIntervalText(open), "≥30.4");

  CapacityCurve poor = delta.capacity(1);
  poor.clear_pairs_at_90();
  for (CapacityPoint& point : *poor.mutable_points()) {
    point.mutable_recall()->set_mean(0.5);
  }
  EXPECT_EQ(PairsText(poor), "<8");
  EXPECT_EQ(PairsPerKibText(poor), "");
}

TEST(Approximations, AreNamedApart) {
  ProbeRecord record = ApproximationProbe("linformer", "k");
  *record.add_approximation() = record.approximation(0);
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {record, CapacityProbe("linear", 0.5)});
  const std::vector<const Probe*> probes = Approximations(leaderboard.probes);
  ASSERT_THAT(probes, SizeIs(1));
  EXPECT_EQ(ApproximationName(*probes[0], 0), "linformer, k (1)");
  EXPECT_EQ(ApproximationName(*probes[0], 1), "linformer, k (2)");
  Probe alone = *probes[0];
  alone.record.mutable_approximation()->RemoveLast();
  EXPECT_EQ(ApproximationName(alone, 0), "linformer, k");
}

TEST(FormatFigures, KeepsThree) {
  EXPECT_EQ(FormatFigures(0), "0");
  EXPECT_EQ(FormatFigures(0.0123456), "0.0123");
  EXPECT_EQ(FormatFigures(0.09999), "0.100");
  EXPECT_EQ(FormatFigures(0.5), "0.500");
  EXPECT_EQ(FormatFigures(9.999), "10.0");
  EXPECT_EQ(FormatFigures(15.29), "15.3");
  EXPECT_EQ(FormatFigures(99.96), "100");
  EXPECT_EQ(FormatFigures(4096.4), "4,096");
  EXPECT_EQ(FormatFigures(0.0000123), "1.2e-05");
}

}  // namespace
}  // namespace mneme
