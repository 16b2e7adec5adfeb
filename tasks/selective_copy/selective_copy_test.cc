// SPDX-License-Identifier: Apache-2.0
//
// What is particular to selective copying. What all tasks have in common is in
// selective_copy_contract_test.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int tokens, int vocab,
                           const std::string& places = "uniform") {
  return MakeTaskOrFail("selective_copy", {{"length", std::to_string(length)},
                                           {"tokens", std::to_string(tokens)},
                                           {"vocab", std::to_string(vocab)},
                                           {"places", places}});
}

// The definition: dropping the blanks before the mark leaves the answers.
void ExpectIsSelectiveCopy(const Example& example, int tokens, int vocab) {
  const int length = example.tokens.size();
  const int mark = length - tokens - 1;
  std::vector<int32_t> content, answers;
  std::vector<int32_t> places;
  for (int t = 0; t < length; ++t) {
    if (t == mark) {
      EXPECT_EQ(example.tokens[t], 1);
      EXPECT_EQ(example.targets[t], kUnscored);
    } else if (t > mark) {
      EXPECT_EQ(example.tokens[t], 0) << "nothing leads the way";
      answers.push_back(example.targets[t]);
      EXPECT_EQ(example.roles[t], TokenRole::kQuery);
    } else {
      EXPECT_EQ(example.targets[t], kUnscored);
      const bool blank = example.tokens[t] == 0;
      EXPECT_EQ(example.roles[t],
                blank ? TokenRole::kFiller : TokenRole::kContext);
      if (blank) continue;
      EXPECT_TRUE(2 <= example.tokens[t] && example.tokens[t] < vocab);
      content.push_back(example.tokens[t]);
      places.push_back(t);
    }
  }
  EXPECT_EQ(content, answers);
  EXPECT_EQ(static_cast<int>(content.size()), tokens);
  EXPECT_EQ(std::vector<int32_t>(example.origins.begin() + mark + 1,
                                 example.origins.end()),
            places);
}

TEST(SelectiveCopyTest, ExamplesAreAsDefined) {
  struct Case {
    int length, tokens, vocab;
  };
  for (const Case& c : std::vector<Case>{{64, 8, 16},
                                         {16, 3, 8},
                                         {256, 16, 16},
                                         {256, 96, 128},
                                         {3, 1, 4},       // the smallest
                                         {33, 16, 4}}) {  // no blank between
    for (const char* places : {"uniform", "insertions"}) {
      SCOPED_TRACE(testing::Message() << "length " << c.length << ", tokens "
                                      << c.tokens << ", places " << places);
      const std::unique_ptr<Task> task =
          Make(c.length, c.tokens, c.vocab, places);
      EXPECT_EQ(task->length(), c.length);
      EXPECT_EQ(task->vocabulary(), c.vocab);
      for (uint64_t index = 0; index < 50; ++index) {
        ExpectIsSelectiveCopy(TrainExample(*task, index), c.tokens, c.vocab);
      }
    }
  }
}

TEST(SelectiveCopyTest, ContentIsUniformAtEachAnswer) {
  const std::unique_ptr<Task> task = Make(16, 3, 8);
  std::vector<std::vector<int64_t>> counts(3, std::vector<int64_t>(6));
  for (uint64_t index = 0; index < 3000; ++index) {
    const Example example = TrainExample(*task, index);
    for (int i = 0; i < 3; ++i) ++counts[i][example.targets[13 + i] - 2];
  }
  for (const auto& kinds : counts) {
    ExpectUniform(kinds);
  }
}

// Two content tokens among five places: ten choices, or gaps of three blanks.
TEST(SelectiveCopyTest, PlacesAreDrawnAsDocumented) {
  for (const char* places : {"uniform", "insertions"}) {
    SCOPED_TRACE(places);
    const std::unique_ptr<Task> task = Make(8, 2, 8, places);
    std::map<std::pair<int32_t, int32_t>, int64_t> seen;
    for (uint64_t index = 0; index < 4000; ++index) {
      const Example example = TrainExample(*task, index);
      ++seen[{example.origins[6], example.origins[7]}];
    }
    std::vector<int64_t> counts;
    for (const auto& [pair, count] : seen) counts.push_back(count);
    if (std::string(places) == "uniform") {
      ASSERT_EQ(counts.size(), 10);
      ExpectUniform(counts);
    } else {
      // The last content token is always at place 4, the first behind 0..3 of
      // the blanks, as many as of three fair coins.
      ASSERT_EQ(counts.size(), 4);
      EXPECT_EQ(seen.count({0, 4}), 1);
      ExpectFits({0.125, 0.375, 0.375, 0.125}, counts);
    }
  }
}

TEST(SelectiveCopyTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(64, 8, 16);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 14);
  // The same content token for all answers: itself, and 7 times another's kind.
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), (1 + 7.0 / 14) / 8);
  double guess = 0, most = 0;
  constexpr int kExamples = 4000;
  for (uint64_t index = 0; index < kExamples; ++index) {
    const Example example = TrainExample(*task, index);
    double best = 0;
    for (int32_t kind = 2; kind < 16; ++kind) {
      best =
          std::max(best, task->Score(example, std::vector<int32_t>(8, kind)));
    }
    most += best;
    guess += task->Score(example, std::vector<int32_t>(8, example.targets[56]));
  }
  EXPECT_NEAR(guess / kExamples, task->ContextGuessScore(), 0.01);
  EXPECT_NEAR(most / kExamples, task->Floors().bag, 0.01);
  // Alone, the last content token can stand in view of the answer.
  EXPECT_EQ(Make(64, 1, 16)->Floors().ngram, 1);
  EXPECT_DOUBLE_EQ(task->Floors().ngram, task->ChanceScore());
}

TEST(SelectiveCopyTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("selective_copy"),
            "quick: length=64 tokens=8 vocab=16 places=uniform\n"
            "smoke: length=16 tokens=3 vocab=8 places=uniform\n"
            "published/mad: length=256 tokens=16 vocab=16 "
            "places=insertions\n");
}

TEST(SelectiveCopyTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("selective_copy", {{"length", "64"}, {"tokens", "32"}}),
            "selective_copy: tokens=32 need length >= 65 (each stands once and "
            "is said once, after a mark), not 64");
  EXPECT_TRUE(
      TryMakeTask("selective_copy", {{"length", "65"}, {"tokens", "32"}}).ok());
  EXPECT_EQ(Refusal("selective_copy", {{"vocab", "3"}}),
            "option \"vocab\": \"3\" is not an integer in 4..1048576");
}

TEST(SelectiveCopyTest, TokensAreReadable) {
  const std::unique_ptr<Task> task = Make(64, 8, 64);
  EXPECT_EQ(task->TokenText(0), "_");
  EXPECT_EQ(task->TokenText(1), "|");
  EXPECT_EQ(task->TokenText(2), "a");
  EXPECT_EQ(task->TokenText(28), "c26");
}

}  // namespace
}  // namespace mneme
