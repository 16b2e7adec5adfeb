// SPDX-License-Identifier: Apache-2.0

#include "reports/boards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "reports/testing.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

std::vector<std::string> Variants(const Board& board) {
  std::vector<std::string> names;
  for (const Row& row : board.rows) names.push_back(row.variant);
  return names;
}

const Row& Only(const Leaderboard& leaderboard) {
  EXPECT_THAT(leaderboard.boards, SizeIs(1));
  EXPECT_THAT(leaderboard.boards[0].rows, SizeIs(1));
  return leaderboard.boards[0].rows[0];
}

TEST(Boards, RanksByAccuracy) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("linear", 0.5), OkCell("softmax", 1.0), OkCell("gla", 0.8)});
  ASSERT_THAT(leaderboard.boards, SizeIs(1));
  EXPECT_THAT(Variants(leaderboard.boards[0]),
              ElementsAre("softmax", "gla", "linear"));
  EXPECT_EQ(leaderboard.boards[0].rows[2].rank->first, 3);
  EXPECT_THAT(leaderboard.variants, ElementsAre("gla", "linear", "softmax"));
  EXPECT_EQ(leaderboard.boards[0].rows[0].variant_index, 2);
  EXPECT_TRUE(leaderboard.IsComplete());
}

TEST(Boards, TheOrderOfRecordsDoesNotMatter) {
  std::vector<ResultRecord> records = {OkCell("a", 0.9, 0), OkCell("a", 0.8, 1),
                                       OkCell("b", 0.9, 0), OkCell("b", 0.9, 1),
                                       FailedCell("c", "no luck", 0)};
  const Leaderboard forwards = MakeLeaderboard(records);
  std::reverse(records.begin(), records.end());
  const Leaderboard backwards = MakeLeaderboard(records);
  ASSERT_EQ(forwards.cells.size(), backwards.cells.size());
  for (size_t i = 0; i < forwards.cells.size(); ++i) {
    EXPECT_EQ(forwards.cells[i].SerializeAsString(),
              backwards.cells[i].SerializeAsString());
  }
  EXPECT_EQ(Variants(forwards.boards[0]), Variants(backwards.boards[0]));
}

TEST(Boards, NothingIsAveragedOverHoles) {
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 1.0, 0), OkCell("softmax", 1.0, 1),
                       OkCell("linear", 1.0, 0), DivergedCell("linear", 1)});
  const Row& row = leaderboard.boards[0].rows[1];
  EXPECT_EQ(row.variant, "linear");
  EXPECT_FALSE(row.complete());
  EXPECT_EQ(row.finished, 1);
  EXPECT_EQ(row.wanted, 2);
  EXPECT_FALSE(row.accuracy.has_value());
  EXPECT_FALSE(row.rank.has_value());
  EXPECT_FALSE(row.train_tokens_per_second.has_value());
  EXPECT_THAT(row.reasons,
              ElementsAre("seed 1 diverged at step 120: the loss became NaN"));
  EXPECT_EQ(*row.state_bytes, 16640);
  EXPECT_FALSE(leaderboard.IsComplete());
}

TEST(Boards, ASeedThatOthersHaveIsMissing) {
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 1.0, 0), OkCell("softmax", 1.0, 3),
                       OkCell("linear", 0.5, 0)});
  const Row& row = leaderboard.boards[0].rows[1];
  EXPECT_THAT(row.reasons, ElementsAre("seed 3 has no result"));
  EXPECT_FALSE(row.rank.has_value());
  EXPECT_FALSE(leaderboard.IsComplete());
}

TEST(Boards, AnUnsupportedTaskIsAResult) {
  ResultRecord unsupported = FailedCell("bidirectional", "is not causal");
  unsupported.set_status(STATUS_UNSUPPORTED);
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 1.0), unsupported});
  EXPECT_TRUE(leaderboard.IsComplete());
  EXPECT_FALSE(leaderboard.boards[0].rows[1].complete());
}

TEST(Boards, SeedsAreSummarised) {
  ResultRecord slow = OkCell("softmax", 1.0, 2);
  slow.mutable_timing()->set_train_tokens_per_second(1);
  slow.mutable_metrics()->set_steps_to_90(700);
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("softmax", 0.9, 0), OkCell("softmax", 0.95, 1), slow});
  const Row& row = Only(leaderboard);
  EXPECT_NEAR(row.accuracy->mean, 0.95, 1e-12);
  EXPECT_NEAR(*row.loss, 0.05, 1e-12);
  EXPECT_EQ(*row.train_tokens_per_second, 150000);  // the median
  EXPECT_EQ(*row.steps_to_90, 200);
  EXPECT_EQ(row.reached_90, 3);
}

TEST(Boards, StepsTo90NeedEverySeed) {
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("linear", 0.95, 0), OkCell("linear", 0.85, 1)});
  const Row& row = Only(leaderboard);
  EXPECT_FALSE(row.steps_to_90.has_value());
  EXPECT_EQ(row.reached_90, 1);
}

TEST(Boards, TheNewestRecordOfACellCounts) {
  ResultRecord old = OkCell("softmax", 0.2);
  old.mutable_environment()->set_date("2025-11-21T04:05:06Z");
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 0.9), old});
  EXPECT_EQ(Only(leaderboard).accuracy->mean, 0.9);
  EXPECT_EQ(leaderboard.superseded, 1);
}

TEST(Boards, OtherDataAreAnotherBoard) {
  ResultRecord mine = OkCell("softmax", 0.2), yours = OkCell("softmax", 0.3);
  mine.set_data("1 file, 100 bytes, hash 0123456789abcdef");
  yours.set_data("1 file, 100 bytes, hash 0123456789abcdee");
  const Leaderboard leaderboard = MakeLeaderboard({mine, yours});
  ASSERT_THAT(leaderboard.boards, SizeIs(2));
  ASSERT_THAT(leaderboard.boards[0].distinction, SizeIs(1));
  EXPECT_EQ(leaderboard.boards[0].distinction[0].name(), "data");
  EXPECT_EQ(leaderboard.boards[0].distinction[0].value(), yours.data());
  EXPECT_EQ(leaderboard.boards[1].data, mine.data());
}

TEST(Boards, OtherOptionsAreAnotherBoard) {
  ResultRecord pure = OkCell("softmax", 0.2);
  pure.mutable_model_options(0)->set_value("false");
  ResultRecord other_task = OkCell("softmax", 0.3);
  other_task.set_task("needle");
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 1.0), pure, other_task});
  ASSERT_THAT(leaderboard.boards, SizeIs(3));
  const Board& first = leaderboard.boards[0];
  EXPECT_EQ(first.anchor, "mqar");
  ASSERT_THAT(first.distinction, SizeIs(1));
  EXPECT_EQ(first.distinction[0].name(), "short_conv");
  EXPECT_EQ(first.distinction[0].value(), "false");
  EXPECT_EQ(leaderboard.boards[1].anchor, "mqar-2");
  EXPECT_EQ(leaderboard.boards[2].anchor, "needle");
  EXPECT_THAT(leaderboard.boards[2].distinction, IsEmpty());
}

TEST(Boards, OtherTrainingIsAnotherRowThatSaysSo) {
  ResultRecord tuned = OkCell("linear", 0.4);
  const std::string option = tuned.train_options(0).name();
  tuned.mutable_train_options(0)->set_value("0.01");
  const std::string usual = OkCell("linear", 0.3).train_options(0).value();
  const Leaderboard leaderboard =
      MakeLeaderboard({OkCell("softmax", 1.0), tuned, OkCell("linear", 0.3)});
  ASSERT_THAT(leaderboard.boards, SizeIs(1));
  EXPECT_EQ(leaderboard.superseded, 0);
  EXPECT_THAT(Variants(leaderboard.boards[0]),
              ElementsAre("softmax (" + option + "=" + usual + ")",
                          "linear (" + option + "=0.01)",
                          "linear (" + option + "=" + usual + ")"));
  EXPECT_EQ(leaderboard.boards[0].rows[1].plugin, "linear");
}

TEST(Boards, OptionsOfAVariantAreRowsOfTheirOwn) {
  ResultRecord rope = OkCell("softmax", 0.9), plain = OkCell("softmax", 0.8);
  Setting* setting = rope.add_variant_options();
  setting->set_name("rope");
  setting->set_value("true");
  *plain.add_variant_options() = *setting;
  plain.mutable_variant_options(plain.variant_options_size() - 1)
      ->set_value("false");
  const Leaderboard leaderboard =
      MakeLeaderboard({rope, plain, OkCell("linear", 0.5)});
  EXPECT_THAT(
      Variants(leaderboard.boards[0]),
      ElementsAre("softmax (rope=true)", "softmax (rope=false)", "linear"));
}

TEST(Boards, OtherVersionsAreNotMixed) {
  ResultRecord later = OkCell("softmax", 0.9);
  later.set_variant_version(7);
  EXPECT_THAT(MakeLeaderboard({OkCell("softmax", 0.8), later}).boards[0].rows,
              SizeIs(2));
  ResultRecord other_data = OkCell("softmax", 0.9);
  other_data.set_task_version(7);
  EXPECT_THAT(MakeLeaderboard({OkCell("softmax", 0.8), other_data}).boards,
              SizeIs(2));
}

TEST(Boards, ACellThatFailedEarlyStandsWithTheOthers) {
  const Leaderboard leaderboard = MakeLeaderboard(
      {OkCell("softmax", 1.0), FailedCell("linear", "exit code 134")});
  ASSERT_THAT(leaderboard.boards, SizeIs(1));
  EXPECT_THAT(leaderboard.boards[0].rows[1].reasons,
              ElementsAre("seed 0 failed: exit code 134"));
}

TEST(Boards, NothingButFailures) {
  const Leaderboard leaderboard =
      MakeLeaderboard({FailedCell("a", "x"), FailedCell("b", "y")});
  ASSERT_THAT(leaderboard.boards, SizeIs(1));
  EXPECT_FALSE(leaderboard.boards[0].chance_accuracy.has_value());
  EXPECT_THAT(leaderboard.context.Field("machine").values, IsEmpty());
}

TEST(Boards, NoRecords) {
  const Leaderboard leaderboard = MakeLeaderboard({});
  EXPECT_THAT(leaderboard.boards, IsEmpty());
  EXPECT_TRUE(leaderboard.IsComplete());
}

TEST(Context, DifferencesAreListed) {
  ResultRecord elsewhere = OkCell("linear", 0.5);
  elsewhere.mutable_environment()->set_machine("Other CPU");
  elsewhere.mutable_environment()->set_date("2025-11-23T00:00:00Z");
  const Context context =
      MakeLeaderboard({OkCell("softmax", 1.0), OkCell("gla", 1.0), elsewhere})
          .context;
  EXPECT_FALSE(context.IsUniform());
  const ContextField& machine = context.Field("machine");
  ASSERT_THAT(machine.values, SizeIs(2));
  EXPECT_EQ(machine.values[0].value, "Example CPU @ 2.0GHz");
  EXPECT_EQ(machine.values[0].cells, 2);
  EXPECT_EQ(machine.values[1].value, "Other CPU");
  EXPECT_EQ(context.date, "2025-11-23T00:00:00Z");
  EXPECT_EQ(context.oldest_date, "2025-11-22T04:05:06Z");
}

TEST(Context, ProfilesMayDiffer) {
  ResultRecord other = OkCell("linear", 0.5);
  other.set_profile("published/zoology");
  const Context context =
      MakeLeaderboard({OkCell("softmax", 1.0), other}).context;
  EXPECT_TRUE(context.IsUniform());
  EXPECT_THAT(context.Field("profile").values, SizeIs(2));
}

}  // namespace
}  // namespace mneme
