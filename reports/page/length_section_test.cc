// SPDX-License-Identifier: Apache-2.0

// What the page shows by length, depth and position.

#include "reports/page/length_section.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "reports/page/length_charts.h"
#include "reports/page/page.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

std::string Page(const std::vector<ResultRecord>& records) {
  absl::StatusOr<std::string> page = RenderPage(MakeLeaderboard(records));
  EXPECT_TRUE(page.ok()) << page.status();
  return page.value_or("");
}

TEST(Lengths, HaveAChartATableAndReasons) {
  const std::string page =
      Page({LengthsCell("linear", 1.0), LengthsCell("hyena", 0.8, 0, 128)});
  EXPECT_THAT(page, HasSubstr("Beyond the length of training"));
  EXPECT_THAT(page, HasSubstr("<td class=\"number \">0.7500* (0.1250)</td>"));
  EXPECT_THAT(page, HasSubstr("title=\"its filter is of a fixed length\""));
  EXPECT_THAT(page, HasSubstr("<dt>Unsupported, hyena from 256 tokens</dt>"
                              "<dd>its filter is of a fixed length</dd>"));
  EXPECT_THAT(page, HasSubstr("href=\"lengths.csv\""));
}

TEST(Lengths, TheChartLeavesOutWhatIsUnsupported) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {LengthsCell("linear", 1.0), LengthsCell("hyena", 0.8, 0, 128)});
  const Board& board = leaderboard.boards[0];
  const json spec =
      json::parse(LengthChartSpec(board, LengthsOf(leaderboard, board)));
  EXPECT_THAT(spec["data"][0]["values"], SizeIs(6));
  EXPECT_THAT(spec["data"][1]["values"], SizeIs(2));
  EXPECT_THAT(spec["data"][2]["values"], SizeIs(2)) << "guessing";
  EXPECT_EQ(spec["scales"][0]["domain"], json({64, 512}));
  EXPECT_EQ(spec["axes"][0]["values"], json({64, 128, 256, 512}));
}

TEST(Lengths, WithoutThemThereIsNothing) {
  const std::string page = Page({OkCell("linear", 1.0)});
  for (const char* heading :
       {"Beyond the length", "Where it was said", "What more context",
        "What else the answers", "Memories without training"}) {
    EXPECT_THAT(page, Not(HasSubstr(heading)));
  }
}

TEST(HeatMap, HasATableForEachVariant) {
  const std::string page =
      Page({LengthsCell("linear", 1.0), LengthsCell("hyena", 0.8, 0, 128),
            DivergedCell("gla")});
  EXPECT_THAT(page, HasSubstr("aria-label=\"Accuracy by depth and length, "
                              "hyena\""));
  EXPECT_THAT(page,
              HasSubstr("<th scope=\"row\">0%</th><td class=\"h5\">51</td>"
                        "<td class=\"h4\">38</td>"));
  EXPECT_THAT(page, HasSubstr("<td class=\"none\" rowspan=\"10\" title=\"its "
                              "filter is of a fixed length\">"
                              "<span>unsupported</span></td>"));
}

// As in associative recall, where pairs come first.
TEST(HeatMap, NeedsAnswersAtManyDepths) {
  ResultRecord cell = LengthsCell("linear", 1.0);
  for (LengthScore& score : *cell.mutable_metrics()->mutable_lengths()) {
    score.mutable_depths()->DeleteSubrange(10, 30);
  }
  EXPECT_THAT(Page({cell}), Not(HasSubstr("Where it was said")));
}

TEST(HeatMap, OfOneLengthIsOneTable) {
  ResultRecord cell = LengthsCell("linear", 1.0);
  cell.mutable_metrics()->mutable_lengths()->DeleteSubrange(1, 3);
  const std::string page = Page({cell});
  EXPECT_THAT(page, HasSubstr("<table class=\"heat heat-of-one\">"));
  EXPECT_THAT(page, Not(HasSubstr("Beyond the length")));
}

TEST(HeatMap, OfManyVariantsIsLight) {
  std::vector<ResultRecord> few, many;
  for (int i = 0; i < 32; ++i) {
    many.push_back(LengthsCell("v" + std::to_string(i), 0.9));
  }
  few.push_back(many[0]);
  EXPECT_LT(Page(many).size() - Page(few).size(), 500 * 1000);
}

TEST(Positions, NeedEveryPositionScored) {
  ResultRecord cell = LengthsCell("linear", 1.0);
  EXPECT_THAT(Page({cell}), HasSubstr("What more context is worth"));
  for (LengthScore& score : *cell.mutable_metrics()->mutable_lengths()) {
    for (PositionLoss& part : *score.mutable_loss_by_position()) {
      part.set_answers(100);
    }
  }
  EXPECT_THAT(Page({cell}), Not(HasSubstr("What more context is worth")));
}

TEST(Positions, AreInBitsOfTheLongestSequences) {
  const Leaderboard leaderboard = MakeLeaderboard({LengthsCell("linear", 1.0)});
  const Board& board = leaderboard.boards[0];
  const json spec =
      json::parse(PositionChartSpec(board, LengthsOf(leaderboard, board)));
  const json& points = spec["data"][0]["values"];
  ASSERT_THAT(points, SizeIs(10));
  EXPECT_EQ(points[0]["y"], 2.8854);
  EXPECT_EQ(points[9]["x"], 512);
  EXPECT_EQ(spec["scales"][1]["domain"], json({0, 3}));
}

TEST(TaskDetails, StandBelowTheBoard) {
  const std::string page = Page({LengthsCell("linear", 0.8)});
  EXPECT_THAT(page,
              HasSubstr("<th scope=\"col\" class=\"number\">recall</th>"));
  EXPECT_THAT(page, HasSubstr("What else the answers show"));
}

TEST(References, AreLinesAndATable) {
  const std::string page = Page({LengthsCell("linear", 0.8)});
  EXPECT_THAT(page, HasSubstr("window of as many bytes"));
  EXPECT_THAT(page, HasSubstr("table of as many bytes"));
  EXPECT_THAT(page, HasSubstr("<th scope=\"row\" class=\"number\">16,384</th>"
                              "<td class=\"number\">0.2500</td>"
                              "<td class=\"number\">1.0000</td>"));
}

}  // namespace
}  // namespace mneme
