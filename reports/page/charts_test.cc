// SPDX-License-Identifier: Apache-2.0

#include "reports/page/charts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "reports/page/chart_parts.h"
#include "reports/page/probe_charts.h"
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

TEST(StateChart, AvoidsNamesOfMemoriesOnlyWhereThereAreAny) {
  const Leaderboard leaderboard = MakeLeaderboard({OkCell("linear", 0.5)});
  const auto avoided = [&](absl::Span<const ReferencePoint> references) {
    const json spec =
        json::parse(StateChartSpec(leaderboard.boards[0], references));
    return spec["marks"].back()["transform"][0]["avoidMarks"];
  };
  std::vector<ReferencePoint> references(2);
  references[0].set_bytes(1024);
  references[1].set_bytes(1 << 20);
  EXPECT_EQ(avoided({}), json({"markers"}));
  EXPECT_EQ(avoided(references), json({"markers", "memory_names"}));
}

TEST(StateChart, LeavesOutWhatHasNoLogarithm) {
  ResultRecord stateless = OkCell("mean", 0.1);
  stateless.clear_state_bytes();
  const Leaderboard with = MakeLeaderboard({stateless, OkCell("a", 0.5)});
  EXPECT_THAT(json::parse(StateChartSpec(with.boards[0]))["data"][0]["values"],
              SizeIs(1));
  EXPECT_FALSE(HasStates(MakeLeaderboard({stateless}).boards[0]));
}

TEST(CapacityChart, HasALineForEachMemoryAndSetup) {
  ProbeRecord delta = CapacityProbe("delta", 1);
  CapacityCurve& correlated = *delta.add_capacity();
  correlated = delta.capacity(1);
  correlated.set_keys("correlated");
  const Leaderboard leaderboard = MakeLeaderboard(
      {}, {delta, CapacityProbe("softmax", 16), FailedProbe("gla", "no luck")});
  const json spec = json::parse(CapacityChartSpec(leaderboard.probes));
  const json& looks = spec["data"][0]["values"];
  ASSERT_THAT(looks, SizeIs(2));
  EXPECT_EQ(looks[0]["variant"], "softmax");  // the one that holds most
  EXPECT_EQ(looks[0]["color"], SeriesColor(2));
  const json& curves = spec["data"][1]["values"];
  ASSERT_THAT(curves, SizeIs(5));
  const json& line = curves[3];
  EXPECT_EQ(line["id"], 1);
  EXPECT_EQ(line["setup"], 1);
  EXPECT_EQ(line["d"], 64);
  EXPECT_EQ(line["pairs"], json({8, 16, 32, 64, 128, 256, 512}));
  EXPECT_EQ(line["recall"][3], 0.9);
  EXPECT_LT(line["low"][3], 0.9);
  EXPECT_GT(line["high"][3], 0.9);
  EXPECT_EQ(curves[4]["setup"], 2);
  EXPECT_EQ(spec["scales"][0]["domain"], json({0.125, 8}));
  // Each line of each setup is named once, in order of height.
  const json& ends = spec["data"][2]["values"];
  ASSERT_THAT(ends, SizeIs(5));
  EXPECT_LT(ends[0]["label_y"], ends[1]["label_y"]);
  EXPECT_EQ(ends[0]["setup"], ends[1]["setup"]);
  EXPECT_EQ(ends[0]["per_dim"], 8);
}

TEST(CapacityChart, WhatFallsFirstHasTheLowestName) {
  ProbeRecord early = CapacityProbe("early", 0.25);
  CapacityCurve& curve = *early.mutable_capacity(1);
  curve.mutable_points()->DeleteSubrange(4, 3);
  curve.mutable_points(3)->mutable_recall()->set_mean(0.4);
  ProbeRecord late = CapacityProbe("late", 1);
  late.mutable_capacity(1)->mutable_points()->RemoveLast();
  late.mutable_capacity(1)->mutable_points(5)->mutable_recall()->set_mean(0.3);
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {early, late, CapacityProbe("softmax", 16)});
  const json spec = json::parse(CapacityChartSpec(leaderboard.probes));
  std::map<int, double> heights;
  for (const json& end : spec["data"][2]["values"]) {
    if (end["setup"] == 1) heights[end["id"]] = end["label_y"];
  }
  ASSERT_THAT(heights, SizeIs(3));  // softmax, late, early
  EXPECT_LT(heights[0], heights[1]);
  EXPECT_LT(heights[1], heights[2]);
}

TEST(CapacityChart, GrowsWithTheNames) {
  std::vector<ProbeRecord> records;
  for (int i = 0; i < 40; ++i) {
    records.push_back(CapacityProbe(absl::StrCat("v", i), 0.5));
  }
  const Leaderboard leaderboard = MakeLeaderboard({}, records);
  const json spec = json::parse(CapacityChartSpec(leaderboard.probes));
  EXPECT_GE(spec["height"], 600);
  // Of all that is drawn on the page this is most: 40 lines twice.
  EXPECT_LT(spec.dump().size(), 60 * 1000);
}

TEST(ApproximationChart, LeavesOutWhatHasNoLogarithm) {
  ProbeRecord window = ApproximationProbe("sliding_window", "window");
  ApproximationCurve& curve = *window.mutable_approximation(0);
  curve.mutable_points(0)->set_size(0);
  curve.mutable_points(2)->mutable_error()->set_low(0);
  curve.mutable_points(2)->mutable_error()->set_mean(1e-7);
  const Leaderboard leaderboard = MakeLeaderboard(
      {}, {window, ApproximationProbe("performer", "features")});
  const json spec = json::parse(ApproximationChartSpec(leaderboard.probes));
  const json& looks = spec["data"][0]["values"];
  EXPECT_EQ(looks[0]["name"], "performer, features");
  EXPECT_EQ(looks[0]["variant"], "performer");
  const json& curves = spec["data"][1]["values"];
  ASSERT_THAT(curves, SizeIs(2));
  EXPECT_EQ(curves[0]["sizes"], json({16, 64, 256}));
  EXPECT_EQ(curves[0]["error"][2], 0.003906);
  EXPECT_EQ(curves[1]["sizes"], json({64, 256}));
  EXPECT_EQ(curves[1]["error"][1], 1e-7);
  // What is exact does not stretch the scale: it lies on the foot.
  EXPECT_LT(spec["scales"][1]["domain"][0], curves[0]["low"][2]);
  EXPECT_GT(spec["scales"][1]["domain"][0], 1e-4);
  EXPECT_EQ(spec["scales"][1]["clamp"], true);
  EXPECT_EQ(spec["axes"][1]["values"], json({0.01, 0.1, 1}));
  EXPECT_EQ(spec["data"][2]["values"][1]["label_y"], spec["height"]);

  curve.mutable_points()->DeleteSubrange(1, 2);
  EXPECT_FALSE(HasApproximations(MakeLeaderboard({}, {window}).probes));
}

}  // namespace
}  // namespace mneme
