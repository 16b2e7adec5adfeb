// SPDX-License-Identifier: Apache-2.0
//
// What is particular to in-context recall. What all tasks have in common is in
// in_context_recall_contract_test.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int vocab,
                           const std::string& train_targets = "answers") {
  return MakeTaskOrFail("in_context_recall",
                        {{"length", std::to_string(length)},
                         {"vocab", std::to_string(vocab)},
                         {"train_targets", train_targets}});
}

// The definition: a dictionary that is read along.
void ExpectIsInContextRecall(const Example& example, int vocab) {
  const int length = example.tokens.size();
  std::map<int32_t, int32_t> value_of;
  for (int t = 0; t < length; t += 2) {
    const int32_t key = example.tokens[t];
    const int32_t value = example.tokens[t + 1];
    EXPECT_TRUE(0 <= key && key < vocab / 2) << key;
    EXPECT_TRUE(vocab / 2 <= value && value < vocab) << value;
    EXPECT_EQ(example.targets[t + 1], kUnscored);
    if (value_of.emplace(key, value).second) {
      EXPECT_EQ(example.targets[t], kUnscored) << "cannot be known";
      EXPECT_NE(t, length - 2) << "the last pair is always a question";
      continue;
    }
    EXPECT_EQ(example.targets[t], value_of[key]);
    EXPECT_EQ(value, value_of[key]);
    // The last pair of that key before.
    const int origin = example.origins[t];
    EXPECT_EQ(example.tokens[origin - 1], key);
    for (int u = origin + 1; u < t; u += 2) EXPECT_NE(example.tokens[u], key);
  }
}

TEST(InContextRecallTest, ExamplesAreAsDefined) {
  for (const auto& [length, vocab] : std::map<int, int>{
           {64, 32}, {16, 8}, {128, 16}, {1024, 128}, {4, 4}, {34, 19}}) {
    SCOPED_TRACE(testing::Message() << length << " " << vocab);
    const std::unique_ptr<Task> task = Make(length, vocab);
    EXPECT_EQ(task->length(), length);
    EXPECT_EQ(task->vocabulary(), vocab);
    for (uint64_t index = 0; index < 50; ++index) {
      ExpectIsInContextRecall(TrainExample(*task, index), vocab);
    }
  }
}

TEST(InContextRecallTest, KeysAndNewValuesAreUniform) {
  const std::unique_ptr<Task> task = Make(16, 9);  // 4 keys, 5 values
  std::vector<int64_t> keys(4), values(5), probes(4);
  for (uint64_t index = 0; index < 3000; ++index) {
    const Example example = TrainExample(*task, index);
    ++keys[example.tokens[12]];
    ++values[example.tokens[1] - 4];
    ++probes[example.tokens[14]];
  }
  ExpectUniform(keys);
  ExpectUniform(values);
  ExpectUniform(probes);
}

// The published training asks for what cannot be known as well; nothing else
// differs, and tests never do.
TEST(InContextRecallTest, TrainingCanAskForEveryNextToken) {
  const std::unique_ptr<Task> answers = Make(32, 16, "answers");
  const std::unique_ptr<Task> all = Make(32, 16, "all");
  Example expected, example;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    answers->Generate(split, 0, 7, &expected);
    all->Generate(split, 0, 7, &example);
    EXPECT_EQ(example.tokens, expected.tokens);
    EXPECT_EQ(example.origins, expected.origins);
    if (split != Split::kTrain) {
      EXPECT_EQ(example.targets, expected.targets);
      continue;
    }
    for (int t = 0; t < 31; ++t) {
      EXPECT_EQ(example.targets[t], example.tokens[t + 1]);
      EXPECT_EQ(example.roles[t], TokenRole::kQuery);
    }
    EXPECT_EQ(example.targets[31], kUnscored);
  }
}

TEST(InContextRecallTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(64, 16);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 8);
  ExpectGuessScores(*task, 2000, task->ChanceScore(), [](const Example& e) {
    std::vector<int32_t> guess;
    for (const int32_t target : e.targets) {
      if (target != kUnscored) guess.push_back(8);
    }
    return guess;
  });
  // The value of the first key, which is in the context in any case: of s keys
  // it is the one asked for, or by accident of the same value.
  ExpectGuessScores(*task, 2000, task->ContextGuessScore(),
                    [](const Example& e) {
                      std::vector<int32_t> guess;
                      for (const int32_t target : e.targets) {
                        if (target != kUnscored) guess.push_back(e.tokens[1]);
                      }
                      return guess;
                    });
  // The previous pair's value, which is in view.
  ExpectGuessScores(*task, 2000, task->Floors().ngram, [](const Example& e) {
    std::vector<int32_t> guess;
    for (int t = 0; t < 64; ++t) {
      if (e.targets[t] == kUnscored) continue;
      guess.push_back(e.tokens[t] == e.tokens[t - 2] ? e.tokens[t - 1] : 8);
    }
    return guess;
  });
}

TEST(InContextRecallTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("in_context_recall"),
            "quick: length=64 vocab=32 train_targets=answers\n"
            "smoke: length=16 vocab=8 train_targets=answers\n"
            "published/mad: length=128 vocab=16 train_targets=all\n");
}

TEST(InContextRecallTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("in_context_recall", {{"length", "63"}}),
            "in_context_recall: length=63 is odd; pairs are two tokens wide");
  EXPECT_EQ(Refusal("in_context_recall", {{"vocab", "3"}}),
            "option \"vocab\": \"3\" is not an integer in 4..1048576");
}

TEST(InContextRecallTest, TokensAreReadable) {
  const std::unique_ptr<Task> task = Make(64, 60);
  EXPECT_EQ(task->TokenText(0), "A");
  EXPECT_EQ(task->TokenText(29), "K29");
  EXPECT_EQ(task->TokenText(30), "a");
  EXPECT_EQ(task->TokenText(59), "v29");
}

}  // namespace
}  // namespace mneme
