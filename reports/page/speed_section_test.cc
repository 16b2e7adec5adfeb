// SPDX-License-Identifier: Apache-2.0

// What the page shows of how fast variants are.

#include "reports/page/speed_section.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "reports/page/page.h"
#include "reports/page/series.h"
#include "reports/page/speed_charts.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

std::string Page(const std::vector<ResultRecord>& cells,
                 const std::vector<ThroughputRecord>& throughput) {
  absl::StatusOr<std::string> page =
      RenderPage(MakeLeaderboard(cells, {}, throughput));
  EXPECT_TRUE(page.ok()) << page.status();
  return page.value_or("");
}

TEST(Speed, NeedsNoScript) {
  const std::string page =
      Page({OkCell("linear", 1.0)},
           {SpeedRecord("linear", 654321), SpeedRecord("softmax", 1000)});
  EXPECT_THAT(page,
              HasSubstr("How fast each is <span class=\"aside\">1 thread, "
                        "AVX2</span>"));
  EXPECT_THAT(page, HasSubstr("<td class=\"number group \">654,321<span "
                              "class=\"range\">50% of limit</span></td>"));
  EXPECT_THAT(page, HasSubstr("<span class=\"range\">10% without mixer"));
  EXPECT_THAT(page, HasSubstr("<td class=\"number group\">16.0 KiB</td><td "
                              "class=\"number group\">1.00</td>"));
  EXPECT_THAT(page, HasSubstr("<span class=\"range\">1x2048x8x64</span>"));
  EXPECT_THAT(page, HasSubstr("href=\"speed.csv\""));
  EXPECT_THAT(page, HasSubstr("What the machine can do"));
  EXPECT_THAT(page, HasSubstr("100 GFLOP/s"));
  EXPECT_THAT(page, Not(HasSubstr("Beside others"))) << "there is no peer";
  EXPECT_THAT(page, Not(HasSubstr("Speed was not measured")));
}

TEST(Speed, WithoutItOneLineSaysHowToMeasureIt) {
  const std::string page = Page({OkCell("linear", 1.0)}, {});
  EXPECT_THAT(page,
              HasSubstr("Speed was not measured: <code>./bazelw run "
                        "//harness:throughput -- --out=speed</code> does, and "
                        "<code>./bazelw run //reports:leaderboard -- "
                        "--throughput=speed</code> shows it."));
  for (const char* absent :
       {"id=\"speed\"", "#speed", "speed.csv", "What accuracy costs in time"}) {
    EXPECT_THAT(page, Not(HasSubstr(absent)));
  }
}

TEST(Speed, WhatWasNotTimedSaysWhy) {
  ThroughputRecord errors = SpeedRecord("gla", 1);
  errors.clear_measurements();
  *errors.add_measurements() = NotTimed("mneme", "it is <wrong>");
  const std::string page =
      Page({OkCell("linear", 1.0)}, {errors, SpeedRecord("linear", 1000)});
  EXPECT_THAT(page, HasSubstr("unfinished\" title=\"it is &lt;wrong&gt;\">not "
                              "timed</td>"));
  EXPECT_THAT(page, HasSubstr("<dt>gla (prefill, 1x2048x8x64)</dt>"
                              "<dd>it is &lt;wrong&gt;</dd>"));
  // Alone there is a page, too, with nothing but that.
  const std::string alone = Page({}, {errors});
  EXPECT_THAT(alone, HasSubstr("timed without training"));
  EXPECT_THAT(alone, HasSubstr("<dd>it is &lt;wrong&gt;</dd>"));
  EXPECT_THAT(alone, Not(HasSubstr("class=\"capacity speeds\"")));
}

TEST(Speed, NoiseIsSaid) {
  ThroughputRecord noisy = SpeedRecord("linear", 1000);
  noisy.mutable_measurements(1)->set_noisy(true);
  EXPECT_THAT(Page({}, {noisy}), HasSubstr("50% of limit, noisy</span>"));
}

TEST(Speed, PeersStandBesideOurs) {
  ThroughputRecord record = SpeedRecord("softmax", 2048);  // 1000 ms
  *record.add_measurements() = record.measurements(1);
  ThroughputMeasurement& peer = *record.mutable_measurements()->rbegin();
  peer.set_contender("onednn");
  peer.set_milliseconds(2500);
  const std::string page = Page({}, {record});
  EXPECT_THAT(page, HasSubstr("<td class=\"number\">1,000</td><td>onednn</td>"
                              "<td class=\"number\">2,500</td>"
                              "<td class=\"number\">2.50×</td>"));
}

TEST(Speed, RecordsFromElsewhereAreSaid) {
  ThroughputRecord elsewhere = SpeedRecord("linear", 1000);
  elsewhere.mutable_environment()->set_simd_target("AVX3");
  const std::string page =
      Page({OkCell("linear", 1.0)}, {elsewhere, SpeedRecord("softmax", 1000)});
  EXPECT_THAT(page, HasSubstr("1 throughput record is of another SIMD target "
                              "than all cells: AVX3."));
  EXPECT_THAT(page, HasSubstr("The throughput records differ in SIMD target: "
                              "AVX2 (1 record); AVX3 (1 record)."));
  // What nobody knows differs from nothing.
  elsewhere.mutable_environment()->set_simd_target("AVX2");
  elsewhere.mutable_environment()->set_commit("unknown");
  EXPECT_THAT(Page({OkCell("linear", 1.0)}, {elsewhere}),
              Not(HasSubstr("of another commit")));
}

TEST(Speed, RecordsCannotAddMarkup) {
  const std::string evil = "</script><script>alert('\"&')</script>{{title}}";
  ThroughputRecord record = SpeedRecord(evil, 1000);
  record.set_family(evil);
  *record.add_measurements() = NotTimed("mneme", evil);
  record.mutable_measurements(1)->set_form(evil);
  *record.add_measurements() = record.measurements(1);
  record.mutable_measurements()->rbegin()->set_contender(evil);
  const std::string page = Page({OkCell(evil, 1.0)}, {record});
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert"));
}

TEST(SpeedLengthChart, HasALineForEachVariantAndSeries) {
  ThroughputRecord decoding = SpeedRecord("linear", 1000);
  ThroughputMeasurement& longer = *decoding.add_measurements();
  longer = decoding.measurements(4);
  ASSERT_EQ(longer.phase(), "decode");
  longer.set_length(16384);
  const Leaderboard leaderboard =
      MakeLeaderboard({}, {}, {decoding, SpeedRecord("softmax", 12345.6)});
  const json spec =
      json::parse(SpeedLengthChartSpec(LengthSeriesOf(leaderboard.speeds)));
  const json& looks = spec["data"][0]["values"];
  ASSERT_THAT(looks, SizeIs(2));
  EXPECT_EQ(looks[1]["variant"], "softmax");
  EXPECT_EQ(looks[1]["color"], SeriesColor(1));
  const json& curves = spec["data"][1]["values"];
  ASSERT_THAT(curves, SizeIs(3));
  EXPECT_EQ(curves[1]["lengths"], json({1024, 2048, 4096, 8192}));
  EXPECT_EQ(curves[1]["speeds"][0], 12350);
  EXPECT_EQ(curves[2]["series"], 1);
  EXPECT_EQ(curves[2]["id"], 0) << "a variant looks the same in all series";
  const json& ends = spec["data"][2]["values"];
  ASSERT_THAT(ends, SizeIs(3));
  EXPECT_GT(ends[0]["label_y"], ends[1]["label_y"]) << "downwards";
  EXPECT_EQ(spec["scales"][0]["domain"], json({1024, 16384}));
  EXPECT_LT(spec["scales"][1]["domain"][0], 100);
}

TEST(SpeedLengthChart, ThereIsNoneOfOneLength) {
  ThroughputRecord record = SpeedRecord("linear", 1000);
  record.mutable_measurements()->DeleteSubrange(1, 3);
  EXPECT_THAT(Page({}, {record}), Not(HasSubstr("Speed as the context grows")));
}

TEST(AccuracySpeed, JoinsWhatIsOfTheSameOptions) {
  ThroughputRecord other_options = SpeedRecord("softmax", 1000);
  other_options.mutable_variant_options(0)->set_value("4");
  ThroughputRecord untrained = SpeedRecord("gla", 1000);
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("linear", 0.5), OkCell("softmax", 1.0), DivergedCell("gla")}, {},
      {SpeedRecord("linear", 1000), other_options, untrained});
  const Board& board = leaderboard.boards[0];
  const auto phases = AccuracySpeedsOf(leaderboard, board);
  ASSERT_THAT(phases, SizeIs(3));
  ASSERT_THAT(phases[0].points, SizeIs(1));
  EXPECT_EQ(phases[0].points[0].row->variant, "linear");
  EXPECT_EQ(phases[0].points[0].tokens_per_second, 1000);
  const json spec = json::parse(AccuracySpeedChartSpec(board, phases));
  const json& points = spec["data"][0]["values"];
  ASSERT_THAT(points, SizeIs(3));
  EXPECT_EQ(points[1]["phase"], 1);
  EXPECT_EQ(points[1]["speed"], 100);
  EXPECT_EQ(points[1]["accuracy"], 0.5);
  // However near speeds are, two ticks tell how fast they are.
  EXPECT_EQ(spec["signals"][8]["value"][1], json({50, 200}));
  EXPECT_EQ(spec["signals"][9]["value"][1], json({50, 100, 200}));
  const absl::StatusOr<std::string> page = RenderPage(leaderboard);
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(*page, HasSubstr("Of 1 no speed was measured under the same "
                               "options."));
  EXPECT_THAT(*page,
              HasSubstr("<th scope=\"row\">linear</th><td class=\"number"
                        "\">0.5000</td><td class=\"number\">1,000</td>"));
  EXPECT_THAT(*page, HasSubstr("name=\"phase-mqar\" value=\"0\" "
                               "data-signal=\"phase\""));
}

TEST(AccuracySpeed, ThereIsNoneWithoutAnythingToJoin) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("linear", 0.5)}, {}, {SpeedRecord("softmax", 1000)});
  EXPECT_THAT(AccuracySpeedsOf(leaderboard, leaderboard.boards[0]), IsEmpty());
  EXPECT_THAT(Page({OkCell("linear", 0.5)}, {SpeedRecord("softmax", 1000)}),
              Not(HasSubstr("What accuracy costs in time")));
}

}  // namespace
}  // namespace mneme
