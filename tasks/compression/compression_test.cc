// SPDX-License-Identifier: Apache-2.0
//
// What is particular to compression. What all tasks have in common is in
// compression_contract_test.

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int vocab, bool score_mark = false) {
  return MakeTaskOrFail("compression",
                        {{"length", std::to_string(length)},
                         {"vocab", std::to_string(vocab)},
                         {"score_mark", score_mark ? "true" : "false"}});
}

TEST(CompressionTest, TheSequenceIsTheAnswer) {
  for (const bool score_mark : {false, true}) {
    const std::unique_ptr<Task> task = Make(16, 9, score_mark);
    EXPECT_TRUE(task->AnswersFromLastToken());
    for (uint64_t index = 0; index < 100; ++index) {
      const Example example = TrainExample(*task, index);
      ASSERT_EQ(example.tokens.size(), 16);
      for (int t = 0; t < 15; ++t) {
        EXPECT_TRUE(1 <= example.tokens[t] && example.tokens[t] < 9);
        EXPECT_EQ(example.targets[t], example.tokens[t]);
      }
      EXPECT_EQ(example.tokens[15], 0);
      EXPECT_EQ(example.targets[15], score_mark ? 0 : kUnscored);
    }
  }
}

TEST(CompressionTest, ContentIsUniformAtEachPosition) {
  const std::unique_ptr<Task> task = Make(5, 8);
  std::vector<std::vector<int64_t>> counts(4, std::vector<int64_t>(7));
  for (uint64_t index = 0; index < 2000; ++index) {
    const Example example = TrainExample(*task, index);
    for (int t = 0; t < 4; ++t) ++counts[t][example.tokens[t] - 1];
  }
  for (const auto& kinds : counts) ExpectUniform(kinds);
}

TEST(CompressionTest, GuessesAreWorthWhatIsClaimed) {
  EXPECT_DOUBLE_EQ(Make(16, 9)->ChanceScore(), 1.0 / 8);
  // The mark, and nothing else for certain.
  EXPECT_DOUBLE_EQ(Make(16, 9, true)->ChanceScore(), (15.0 / 8 + 1) / 16);
  for (const bool score_mark : {false, true}) {
    const std::unique_ptr<Task> task = Make(16, 9, score_mark);
    const auto guess = [&](int32_t token) {
      std::vector<int32_t> guess(15, token);
      if (score_mark) guess.push_back(0);
      return guess;
    };
    ExpectGuessScores(*task, 2000, task->ChanceScore(),
                      [&](const Example&) { return guess(3); });
    ExpectGuessScores(*task, 2000, task->ContextGuessScore(),
                      [&](const Example& e) { return guess(e.tokens[14]); });
    ExpectGuessScores(*task, 2000, task->Floors().bag, [&](const Example& e) {
      int32_t most = 1;
      std::vector<int> counts(9);
      for (int t = 0; t < 15; ++t) {
        if (++counts[e.tokens[t]] > counts[most]) most = e.tokens[t];
      }
      return guess(most);
    });
    // The mark and the two tokens before it, each where it is asked for.
    ExpectGuessScores(*task, 2000, task->Floors().ngram, [&](const Example& e) {
      std::vector<int32_t> said = guess(3);
      said[13] = e.tokens[13];
      said[14] = e.tokens[14];
      return said;
    });
  }
}

TEST(CompressionTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("compression"),
            "quick: length=16 vocab=16 score_mark=false\n"
            "smoke: length=8 vocab=8 score_mark=false\n"
            "published/mad: length=32 vocab=16 score_mark=true\n");
}

TEST(CompressionTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("compression", {{"length", "1"}}),
            "option \"length\": \"1\" is not an integer in 2..16777216");
}

TEST(CompressionTest, TokensAreReadable) {
  const std::unique_ptr<Task> task = Make(16, 64);
  EXPECT_EQ(task->TokenText(0), "|");
  EXPECT_EQ(task->TokenText(1), "a");
  EXPECT_EQ(task->TokenText(27), "c26");
}

}  // namespace
}  // namespace mneme
