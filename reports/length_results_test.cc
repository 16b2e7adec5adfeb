// SPDX-License-Identifier: Apache-2.0

#include "reports/length_results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reports/testing.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

TEST(LengthsOf, AreMeansOverSeeds) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {LengthsCell("linear", 1.0, 0), LengthsCell("linear", 0.8, 1)});
  const auto rows = LengthsOf(leaderboard, leaderboard.boards[0]);
  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_THAT(AllLengths(rows), ElementsAre(64, 128, 256, 512));
  const LengthPoint& point = rows[0].points[1];
  EXPECT_NEAR(point.accuracy, 0.675, 1e-12);
  EXPECT_NEAR(point.smallest, 0.6, 1e-12);
  EXPECT_NEAR(point.largest, 0.75, 1e-12);
  EXPECT_NEAR(*point.bits, 0.325 / 0.6931471805599453, 1e-12);
  EXPECT_TRUE(point.streamed);
  EXPECT_DOUBLE_EQ(*point.window, 0.125);
  EXPECT_NEAR(point.details[0].second, 0.675, 1e-12);
  // Four parts of four answers from each of two seeds.
  ASSERT_THAT(point.depths, SizeIs(kShownDepths));
  EXPECT_EQ(point.depths[0].answers, 32);
  EXPECT_NEAR(point.depths[0].accuracy(), 0.675 * (0.5 + 0.5 * 1.5 / 40),
              1e-12);
  ASSERT_THAT(point.positions, SizeIs(8));
  EXPECT_EQ(point.positions[7].answers, 200 * 64);
  EXPECT_NEAR(point.positions[0].bits, 2 / 0.6931471805599453, 1e-12);
}

TEST(LengthsOf, NothingIsAveragedOverHoles) {
  ResultRecord shorter = LengthsCell("linear", 1.0, 1, 128);
  shorter.mutable_metrics()->mutable_lengths()->RemoveLast();
  const Leaderboard leaderboard = MakeLeaderboard(
      {LengthsCell("linear", 1.0, 0), shorter, LengthsCell("gla", 0.9, 0)});
  const auto rows = LengthsOf(leaderboard, leaderboard.boards[0]);
  ASSERT_THAT(rows, SizeIs(1)) << "gla lacks a seed";
  EXPECT_THAT(AllLengths(rows), ElementsAre(64, 128, 256));
  EXPECT_EQ(rows[0].points[2].unsupported, "its filter is of a fixed length");
  EXPECT_THAT(rows[0].points[2].depths, IsEmpty());
}

TEST(EffectiveLength, EndsWhereAccuracyFirstFalls) {
  std::vector<LengthPoint> points(3);
  for (size_t i = 0; i < 3; ++i) points[i].length = 64 << i;
  points[0].accuracy = 0.9;
  points[1].accuracy = 0.89;
  points[2].accuracy = 1;
  EXPECT_EQ(EffectiveLength(points), 64);
  EXPECT_EQ(EffectiveLengthText(points), "64");
  points[1].accuracy = 0.95;
  EXPECT_EQ(EffectiveLengthText(points), "≥256");
  points[2].unsupported = "too long";
  EXPECT_EQ(EffectiveLengthText(points), "128");
  points[0].accuracy = 0.5;
  EXPECT_EQ(EffectiveLengthText(points), "–");
}

TEST(ReferencesOf, AreOfAnyCellThatKnows) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {LengthsCell("linear", 1.0), FailedCell("gla", "no luck")});
  EXPECT_THAT(ReferencesOf(leaderboard, leaderboard.boards[1]), SizeIs(7));
  EXPECT_THAT(ReferencesOf(leaderboard, leaderboard.boards[0]), IsEmpty());
}

}  // namespace
}  // namespace mneme
