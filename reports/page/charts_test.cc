// SPDX-License-Identifier: Apache-2.0

#include "reports/page/charts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "reports/page/series.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::SizeIs;

TEST(SpreadOut, MovesNothingThatHasRoom) {
  EXPECT_THAT(SpreadOut({10, 50, 90}, 15, 0, 100), ElementsAre(10, 50, 90));
}

TEST(SpreadOut, PushesNeighboursApart) {
  EXPECT_THAT(SpreadOut({10, 12, 14}, 15, 0, 100), ElementsAre(10, 25, 40));
}

TEST(SpreadOut, StaysInside) {
  EXPECT_THAT(SpreadOut({-5, 98, 99}, 15, 0, 100), ElementsAre(0, 85, 100));
}

TEST(SpreadOut, KeepsTheGapWhereThereIsNoRoom) {
  EXPECT_THAT(SpreadOut({0, 0, 0}, 15, 0, 20), ElementsAre(-10, 5, 20));
  EXPECT_THAT(SpreadOut({}, 15, 0, 20), SizeIs(0));
}

TEST(Series, FortyTwoVariantsLookDifferent) {
  std::set<std::pair<size_t, std::string>> looks;
  for (size_t i = 0; i < 42; ++i) {
    looks.insert({SeriesColor(i), SeriesMarker(i)});
  }
  EXPECT_THAT(looks, SizeIs(42));
}

TEST(LearningCurve, HasALineForEachSeedAndANameForEachVariant) {
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 1.0, 0), OkCell("softmax", 0.9, 1),
                       OkCell("linear", 0.5, 0), DivergedCell("linear", 1)});
  const json spec =
      json::parse(LearningCurveSpec(leaderboard, leaderboard.boards[0]));
  EXPECT_THAT(spec["data"][0]["values"], SizeIs(6));
  EXPECT_THAT(spec["data"][1]["values"], SizeIs(2));
  EXPECT_EQ(spec["scales"][0]["domain"], json({0, 200}));
}

// Names are 15 pixels high: forty of them need more than the usual 300.
TEST(LearningCurve, GrowsWithTheNames) {
  std::vector<ResultRecord> records;
  for (int i = 0; i < 40; ++i) {
    records.push_back(OkCell(absl::StrCat("v", i), 0.9));
  }
  const Leaderboard leaderboard = MakeLeaderboard(records);
  const json spec =
      json::parse(LearningCurveSpec(leaderboard, leaderboard.boards[0]));
  EXPECT_GE(spec["height"], 600);
  for (const json& end : spec["data"][1]["values"]) {
    EXPECT_GE(end["label_y"], 0);
    EXPECT_LE(end["label_y"], spec["height"]);
  }
}

TEST(StateChart, ItsDomainHoldsEveryPoint) {
  ResultRecord large = OkCell("softmax", 1.0);
  large.set_state_bytes(INT64_C(1) << 33);
  const Leaderboard leaderboard =
      MakeLeaderboard({large, OkCell("linear", 0.5)});
  const json spec = json::parse(StateChartSpec(leaderboard.boards[0]));
  EXPECT_LT(spec["scales"][0]["domain"][0], 16640);
  EXPECT_GT(spec["scales"][0]["domain"][1], INT64_C(1) << 33);
  EXPECT_LE(spec["axes"][0]["values"].size(), 7);
}

TEST(StateChart, LeavesOutWhatHasNoLogarithm) {
  ResultRecord stateless = OkCell("mean", 0.1);
  stateless.clear_state_bytes();
  const Leaderboard with = MakeLeaderboard({stateless, OkCell("a", 0.5)});
  EXPECT_THAT(json::parse(StateChartSpec(with.boards[0]))["data"][0]["values"],
              SizeIs(1));
  EXPECT_FALSE(HasStates(MakeLeaderboard({stateless}).boards[0]));
}

}  // namespace
}  // namespace mneme
