// SPDX-License-Identifier: Apache-2.0
//
// What is particular to fuzzy recall. What all tasks have in common is in
// fuzzy_recall_contract_test.

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

std::unique_ptr<Task> Make(int length, int vocab, int key_motif,
                           int value_motif,
                           const std::string& train_targets = "answers") {
  return MakeTaskOrFail("fuzzy_recall",
                        {{"length", std::to_string(length)},
                         {"vocab", std::to_string(vocab)},
                         {"key_motif", std::to_string(key_motif)},
                         {"value_motif", std::to_string(value_motif)},
                         {"train_targets", train_targets}});
}

using Tokens = std::vector<int32_t>;

// The definition, by cutting the sequence into runs of keys and values. Returns
// the sizes of the keys.
std::vector<int64_t> ExpectIsFuzzyRecall(const Example& example, int vocab,
                                         int key_motif, int value_motif) {
  const int length = example.tokens.size();
  const int keys = (vocab - 1) / 2;
  std::vector<int64_t> sizes;
  std::map<Tokens, int> value_at;  // of each key, where its last value begins
  std::map<Tokens, Tokens> value_of;
  int t = 0;
  for (; example.tokens[t] == 0; ++t) {
    EXPECT_EQ(example.targets[t], kUnscored);
    EXPECT_EQ(example.roles[t], TokenRole::kFiller);
  }
  EXPECT_LE(t, key_motif + value_motif) << "there was room for another";
  const auto run = [&](int32_t first, int32_t last) {
    Tokens run;
    for (;
         t < length && first <= example.tokens[t] && example.tokens[t] <= last;
         ++t) {
      run.push_back(example.tokens[t]);
    }
    EXPECT_EQ(std::set<int32_t>(run.begin(), run.end()).size(), run.size());
    return run;
  };
  while (t < length) {
    const Tokens key = run(1, keys);
    const int begin = t;
    const Tokens value = run(keys + 1, vocab - 1);
    EXPECT_TRUE(1 <= key.size() && key.size() <= size_t(key_motif));
    EXPECT_TRUE(1 <= value.size() && value.size() <= size_t(value_motif));
    if (key.empty() || value.empty()) break;
    sizes.push_back(key.size());
    const bool fresh = value_of.emplace(key, value).second;
    if (t == length) {
      EXPECT_FALSE(fresh) << "the probe was said";
    }
    EXPECT_EQ(value_of[key], value);
    EXPECT_EQ(example.targets[t - 1], kUnscored);
    for (size_t i = 0; i < value.size(); ++i) {
      const int u = begin - 1 + i;
      EXPECT_EQ(example.targets[u], fresh ? kUnscored : value[i]);
      EXPECT_EQ(example.origins[u],
                fresh ? kNowhere : value_at[key] + static_cast<int>(i));
    }
    value_at[key] = begin;
  }
  return sizes;
}

TEST(FuzzyRecallTest, ExamplesAreAsDefined) {
  struct Case {
    int length, vocab, key_motif, value_motif;
  };
  for (const Case& c : std::vector<Case>{{64, 16, 2, 2},
                                         {128, 16, 3, 3},
                                         {18, 7, 3, 3},  // the smallest of 3
                                         {6, 3, 1, 1},   // of all
                                         {64, 16, 1, 3},
                                         {65, 128, 3, 1}}) {
    SCOPED_TRACE(testing::Message() << c.length << " " << c.vocab << " "
                                    << c.key_motif << " " << c.value_motif);
    const std::unique_ptr<Task> task =
        Make(c.length, c.vocab, c.key_motif, c.value_motif);
    for (uint64_t index = 0; index < 100; ++index) {
      ExpectIsFuzzyRecall(TrainExample(*task, index), c.vocab, c.key_motif,
                          c.value_motif);
      Example example;
      task->Generate(Split::kTest, 0, index, &example);
      for (const int64_t size :
           ExpectIsFuzzyRecall(example, c.vocab, c.key_motif, c.value_motif)) {
        EXPECT_EQ(size, c.key_motif) << "tests have keys of full length";
      }
    }
  }
}

TEST(FuzzyRecallTest, KeysAreUniformInLengthAndTokens) {
  const std::unique_ptr<Task> task = Make(64, 16, 3, 3);
  std::vector<int64_t> sizes(3), tokens(7);
  for (uint64_t index = 0; index < 3000; ++index) {
    const Example example = TrainExample(*task, index);
    // The first key, unless the probe's takes its place, is as any other.
    int t = 0;
    while (example.tokens[t] == 0) ++t;
    ++tokens[example.tokens[t] - 1];
    int size = 0;
    while (example.tokens[t + size] <= 7) ++size;
    ++sizes[size - 1];
  }
  ExpectUniform(sizes);
  ExpectUniform(tokens);
}

TEST(FuzzyRecallTest, TrainingCanAskForEveryNextToken) {
  const std::unique_ptr<Task> all = Make(64, 16, 2, 2, "all");
  const Example example = TrainExample(*all, 0);
  for (int t = 0; t < 63; ++t) {
    EXPECT_EQ(example.targets[t], example.tokens[t + 1]);
  }
  Example answers, same;
  Make(64, 16, 2, 2)->Generate(Split::kTest, 0, 0, &answers);
  all->Generate(Split::kTest, 0, 0, &same);
  EXPECT_EQ(same.targets, answers.targets);
}

TEST(FuzzyRecallTest, DetailsCountWholeValues) {
  const std::unique_ptr<Task> task = Make(64, 16, 2, 2);
  Example example;
  // Two answers, of two tokens and of one.
  example.targets = {kUnscored, 9, 10, kUnscored, kUnscored, 11, kUnscored};
  example.tokens.resize(7);
  EXPECT_EQ(task->Details(example, {9, 10, 11}), std::vector<double>{1});
  EXPECT_EQ(task->Details(example, {9, 9, 11}), std::vector<double>{0.5});
  EXPECT_EQ(task->Details(example, {8, 10, 11}), std::vector<double>{0.5});
  EXPECT_EQ(task->Details(example, {8, 10, 9}), std::vector<double>{0});
}

TEST(FuzzyRecallTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("fuzzy_recall"),
            "quick: length=64 vocab=16 key_motif=2 value_motif=2 "
            "train_targets=answers\n"
            "smoke: length=18 vocab=9 key_motif=2 value_motif=2 "
            "train_targets=answers\n"
            "published/mad: length=128 vocab=16 key_motif=3 value_motif=3 "
            "train_targets=all\n");
}

TEST(FuzzyRecallTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("fuzzy_recall", {{"length", "17"}}),
            "fuzzy_recall: key_motif=3 and value_motif=3 need length >= 18 "
            "(three of the longest pairs), not 17");
  EXPECT_EQ(Refusal("fuzzy_recall", {{"vocab", "6"}}),
            "fuzzy_recall: vocab=6 has 2 keys and 3 values, too few for motifs "
            "of different tokens: key_motif=3, value_motif=3");
  EXPECT_TRUE(
      TryMakeTask("fuzzy_recall", {{"length", "18"}, {"vocab", "7"}}).ok());
}

TEST(FuzzyRecallTest, TokensAreReadable) {
  const std::unique_ptr<Task> task = Make(64, 16, 2, 2);
  EXPECT_EQ(task->TokenText(0), "_");
  EXPECT_EQ(task->TokenText(7), "G");
  EXPECT_EQ(task->TokenText(8), "a");
}

}  // namespace
}  // namespace mneme
