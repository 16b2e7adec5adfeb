// SPDX-License-Identifier: Apache-2.0
//
// What is particular to memorization. What all tasks have in common is in
// memorization_contract_test.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int vocab, int map = 0) {
  return MakeTaskOrFail("memorization", {{"length", std::to_string(length)},
                                         {"vocab", std::to_string(vocab)},
                                         {"map", std::to_string(map)}});
}

// The task's map, as far as its examples show it; every example must fit.
std::map<int32_t, int32_t> Map(const Task& task, int keys) {
  std::map<int32_t, int32_t> value_of;
  Example example;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    for (const uint64_t seed : {0, 1}) {
      for (uint64_t index = 0; index < 100; ++index) {
        task.Generate(split, seed, index, &example);
        for (size_t t = 0; t < example.tokens.size(); t += 2) {
          const int32_t key = example.tokens[t];
          EXPECT_TRUE(1 <= key && key <= keys) << key;
          EXPECT_EQ(example.targets[t], kUnscored);
          EXPECT_EQ(example.tokens[t + 1], 0);
          const int32_t value = example.targets[t + 1];
          EXPECT_TRUE(keys < value && value < task.vocabulary()) << value;
          EXPECT_EQ(value_of.emplace(key, value).first->second, value);
        }
      }
    }
  }
  return value_of;
}

TEST(MemorizationTest, OneMapHoldsEverywhere) {
  for (const int vocab : {5, 16, 128}) {
    SCOPED_TRACE(vocab);
    const int keys = (vocab - 1) / 2;
    const auto map = Map(*Make(64, vocab), keys);
    EXPECT_EQ(static_cast<int>(map.size()), keys);
    std::set<int32_t> values;
    for (const auto& [key, value] : map) {
      EXPECT_TRUE(values.insert(value).second) << "two keys have one value";
    }
  }
  EXPECT_NE(Map(*Make(64, 128), 63), Map(*Make(64, 128, 1), 63));
  // Neither the length changes it.
  EXPECT_EQ(Map(*Make(64, 128), 63), Map(*Make(32, 128), 63));
}

TEST(MemorizationTest, KeysAreUniform) {
  const std::unique_ptr<Task> task = Make(8, 16);
  std::vector<std::vector<int64_t>> counts(4, std::vector<int64_t>(7));
  for (uint64_t index = 0; index < 2000; ++index) {
    const Example example = TrainExample(*task, index);
    for (int i = 0; i < 4; ++i) ++counts[i][example.tokens[2 * i] - 1];
  }
  for (const auto& keys : counts) ExpectUniform(keys);
}

TEST(MemorizationTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(8, 16);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 8);
  EXPECT_DOUBLE_EQ(task->Floors().position, 1.0 / 7);
  EXPECT_EQ(task->Floors().ngram, 1);
  const std::map<int32_t, int32_t> map = Map(*task, 7);
  ExpectGuessScores(*task, 2000, 1.0 / 7, [&](const Example&) {
    return std::vector<int32_t>(4, map.at(3));
  });
  // Who knows which keys were asked for says the value of the most frequent.
  ExpectGuessScores(*task, 2000, task->Floors().bag, [&](const Example& e) {
    std::map<int32_t, int> counts;
    std::vector<int32_t> guess;
    int32_t most = 0;
    for (int t = 0; t < 8; t += 2) {
      // Ties go to the smallest key, whichever was last.
      ++counts[e.tokens[t]];
      most = 0;
      for (const auto& [key, count] : counts) {
        if (most == 0 || count > counts[most]) most = key;
      }
      guess.push_back(map.at(most));
    }
    return guess;
  });
}

TEST(MemorizationTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("memorization"),
            "quick: length=64 vocab=128 map=0\n"
            "smoke: length=16 vocab=16 map=0\n"
            "published/mad: length=32 vocab=256 map=0\n");
}

TEST(MemorizationTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("memorization", {{"length", "63"}}),
            "memorization: length=63 is odd; each key is followed by a "
            "question");
  EXPECT_EQ(Refusal("memorization", {{"vocab", "4"}}),
            "option \"vocab\": \"4\" is not an integer in 5..1048576");
}

TEST(MemorizationTest, TokensAreReadable) {
  const std::unique_ptr<Task> task = Make(64, 128);
  EXPECT_EQ(task->TokenText(0), "?");
  EXPECT_EQ(task->TokenText(63), "k63");
  EXPECT_EQ(task->TokenText(64), "v1");
}

}  // namespace
}  // namespace mneme
