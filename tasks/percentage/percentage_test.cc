// SPDX-License-Identifier: Apache-2.0
//
// What is particular to percentages. What all tasks have in common is in
// percentage_contract_test.

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int bins, double polar, int vocab) {
  return MakeTaskOrFail("percentage", {{"length", std::to_string(length)},
                                       {"bins", std::to_string(bins)},
                                       {"polar", std::to_string(polar)},
                                       {"vocab", std::to_string(vocab)}});
}

TEST(PercentageTest, ExamplesAreAsDefined) {
  struct Case {
    int length, bins;
    double polar;
    int vocab;
    int polar_tokens;
  };
  for (const Case& c :
       {Case{64, 10, 0.5, 64, 30}, Case{128, 10, 0.5, 64, 60},
        Case{16, 4, 0.5, 24, 4}, Case{8192, 50, 0.007, 8192, 50},
        Case{13, 10, 0, 18, 10}, Case{43, 4, 1, 25, 40}}) {
    SCOPED_TRACE(c.length);
    const std::unique_ptr<Task> task = Make(c.length, c.bins, c.polar, c.vocab);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), c.vocab);
    const int positive = 4 + c.bins + 1;
    const int negative = positive + (c.vocab - positive) / 3;
    const int neutral = negative + (c.vocab - positive) / 3;
    for (uint64_t index = 0; index < 50; ++index) {
      const Example e = TrainExample(*task, index);
      int positives = 0, negatives = 0;
      for (int t = 0; t < c.length - 3; ++t) {
        ASSERT_GE(e.tokens[t], positive);
        EXPECT_EQ(e.targets[t], kUnscored);
        const bool is_neutral = e.tokens[t] >= neutral;
        EXPECT_EQ(e.roles[t],
                  is_neutral ? TokenRole::kFiller : TokenRole::kContext);
        positives += e.tokens[t] < negative;
        negatives += e.tokens[t] >= negative && !is_neutral;
      }
      EXPECT_EQ(positives + negatives, c.polar_tokens);
      const int bin = e.targets.back() - 4;
      EXPECT_TRUE(0 <= bin && bin <= c.bins) << bin;
      EXPECT_EQ(positives * c.bins, bin * c.polar_tokens);
      EXPECT_EQ(e.tokens[c.length - 3], 1);
      EXPECT_EQ(e.tokens[c.length - 2], 2);
      EXPECT_EQ(e.tokens[c.length - 1], 3);
    }
  }
}

TEST(PercentageTest, SharesPlacesAndWordsAreUniform) {
  const std::unique_ptr<Task> task = Make(23, 10, 0.5, 30);
  std::vector<int64_t> bins(11), places(20), positive(5), neutral(5);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    ++bins[e.targets.back() - 4];
    for (int t = 0; t < 20; ++t) {
      if (e.tokens[t] < 20) ++positive[e.tokens[t] - 15];
      if (e.tokens[t] >= 25) ++neutral[e.tokens[t] - 25];
      places[t] += e.tokens[t] >= 25;
    }
  }
  ExpectUniform(bins);
  ExpectUniform(positive);
  ExpectUniform(neutral);
  ExpectUniform(places);
}

TEST(PercentageTest, ScoreIsAsPublished) {
  const std::unique_ptr<Task> task = Make(64, 10, 0.5, 64);
  Example e = TrainExample(*task, 0);
  e.targets.back() = 4 + 3;  // 30%
  EXPECT_DOUBLE_EQ(task->Score(e, {4 + 3}), 1);
  EXPECT_DOUBLE_EQ(task->Score(e, {4 + 4}), 0.5);
  EXPECT_DOUBLE_EQ(task->Score(e, {4 + 1}), 0.25);
  EXPECT_DOUBLE_EQ(task->Score(e, {4 + 10}), 1.0 / 128);
  EXPECT_EQ(task->Score(e, {3}), 0);
  EXPECT_EQ(task->Score(e, {15}), 0);
  EXPECT_EQ(task->Details(e, {4 + 3}), std::vector<double>{1});
  EXPECT_EQ(task->Details(e, {4 + 4}), std::vector<double>{0});
}

TEST(PercentageTest, GuessesAreWorthWhatIsClaimed) {
  for (const int bins : {10, 5}) {
    const std::unique_ptr<Task> task = Make(64, bins, 0.5, 64);
    EXPECT_DOUBLE_EQ(task->ContextGuessScore(), task->ChanceScore());
    Random random(/*seed=*/0, StreamId("percentage_test"));
    ExpectGuessScores(*task, 20000, task->ChanceScore(), [&](const Example&) {
      return std::vector<int32_t>{
          static_cast<int32_t>(4 + random.Below(bins + 1))};
    });
    ExpectGuessScores(
        *task, 20000, task->Floors().position,
        [&](const Example&) { return std::vector<int32_t>{4 + bins / 2}; });
    EXPECT_LT(task->ChanceScore(), task->Floors().position);
  }
}

TEST(PercentageTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("percentage"),
            "quick: length=64 bins=20 polar=0.7 vocab=64\n"
            "smoke: length=16 bins=4 polar=0.5 vocab=24\n"
            "published/zeroscrolls: length=8192 bins=50 polar=0.007 "
            "vocab=8192\n");
}

TEST(PercentageTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make(64, 8, 0.5, 22);
  std::string text;
  for (int32_t token = 3; token < 22; ++token) {
    text += task->TokenText(token) + " ";
  }
  EXPECT_EQ(text,
            "?1 0% 12.5% 25% 37.5% 50% 62.5% 75% 87.5% 100% "
            "+1 +2 +3 -1 -2 -3 w1 w2 w3 ");
}

TEST(PercentageTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("percentage", {{"length", "12"}}),
            "percentage: bins=10 need length >= 13 (a polar token a bin, and "
            "the question), not 12");
  EXPECT_EQ(Refusal("percentage", {{"vocab", "17"}}),
            "percentage: bins=10 need vocab >= 18 (3 marks, a slot, bins + 1 "
            "answers, three kinds of words), not 17");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("percentage", {{"length", "13"}}).ok());
  EXPECT_TRUE(TryMakeTask("percentage", {{"vocab", "18"}}).ok());
}

}  // namespace
}  // namespace mneme
