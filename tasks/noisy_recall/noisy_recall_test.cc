// SPDX-License-Identifier: Apache-2.0
//
// What is particular to noisy recall: the noise. What it shares with
// in_context_recall is tested there.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int vocab, int noise_vocab,
                           double noise) {
  return MakeTaskOrFail("noisy_recall",
                        {{"length", std::to_string(length)},
                         {"vocab", std::to_string(vocab)},
                         {"noise_vocab", std::to_string(noise_vocab)},
                         {"noise", std::to_string(noise)}});
}

TEST(NoisyRecallTest, PairsAreMappedAndNoiseIsIgnored) {
  for (const double noise : {0.2, 0.8, 0.99}) {
    SCOPED_TRACE(noise);
    // 8 keys, 8 values, 16 tokens of noise.
    const std::unique_ptr<Task> task = Make(32, 32, 16, noise);
    for (uint64_t index = 0; index < 300; ++index) {
      const Example example = TrainExample(*task, index);
      std::map<int32_t, int32_t> value_of;
      for (int t = 0; t < 32; t += 2) {
        const int32_t key = example.tokens[t];
        const int32_t value = example.tokens[t + 1];
        EXPECT_EQ(example.targets[t + 1], kUnscored);
        if (key >= 16) {
          EXPECT_GE(value, 16) << "noise takes whole pairs";
          EXPECT_EQ(example.targets[t], kUnscored);
          EXPECT_EQ(example.roles[t], TokenRole::kFiller);
          EXPECT_EQ(example.roles[t + 1], TokenRole::kFiller);
          EXPECT_NE(t, 30);
          continue;
        }
        EXPECT_LT(key, 8);
        EXPECT_TRUE(8 <= value && value < 16);
        const bool fresh = value_of.emplace(key, value).second;
        EXPECT_EQ(example.targets[t], fresh ? kUnscored : value_of[key]);
        if (t == 30) {
          EXPECT_FALSE(fresh);
        }
      }
    }
  }
}

// Of 15 pairs before the last, one is there in any case.
TEST(NoisyRecallTest, NoiseIsAsFrequentAsAskedAndUniform) {
  const std::unique_ptr<Task> task = Make(32, 20, 4, 0.4);
  std::vector<int64_t> pairs(2), tokens(4);
  std::vector<int64_t> by_place(15);
  for (uint64_t index = 0; index < 2000; ++index) {
    const Example example = TrainExample(*task, index);
    for (int t = 0; t < 32; ++t) {
      if (t % 2 == 0 && t < 30) ++pairs[example.tokens[t] >= 16];
      if (example.tokens[t] < 16) continue;
      ++tokens[example.tokens[t] - 16];
      if (t % 2 == 0) ++by_place[t / 2];
    }
  }
  ExpectFits({1 - 0.4 * 14 / 15, 0.4 * 14 / 15}, pairs);
  ExpectUniform(tokens);
  ExpectUniform(by_place);
}

TEST(NoisyRecallTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("noisy_recall"),
            "quick: length=64 vocab=48 noise_vocab=16 noise=0.2 "
            "train_targets=answers\n"
            "smoke: length=16 vocab=12 noise_vocab=4 noise=0.4 "
            "train_targets=answers\n"
            "published/mad: length=128 vocab=32 noise_vocab=16 noise=0.2 "
            "train_targets=all\n");
}

TEST(NoisyRecallTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("noisy_recall", {{"length", "63"}}),
            "noisy_recall: length=63 is odd; pairs are two tokens wide");
  EXPECT_EQ(Refusal("noisy_recall", {{"vocab", "19"}}),
            "noisy_recall: noise_vocab=16 needs vocab >= 20 (two keys and two "
            "values besides), not 19");
  EXPECT_TRUE(TryMakeTask("noisy_recall", {{"vocab", "20"}}).ok());
}

TEST(NoisyRecallTest, TokensAreReadable) {
  const std::unique_ptr<Task> task = Make(32, 32, 16, 0.2);
  EXPECT_EQ(task->TokenText(7), "H");
  EXPECT_EQ(task->TokenText(8), "a");
  EXPECT_EQ(task->TokenText(16), "~0");
}

}  // namespace
}  // namespace mneme
