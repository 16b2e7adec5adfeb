// SPDX-License-Identifier: Apache-2.0
//
// What is particular to set disjointness. What all tasks have in common is in
// set_disjointness_contract_test.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(const OptionValues& values) {
  return MakeTaskOrFail("set_disjointness", values);
}

// Expects the form of an example and returns the sizes of its two sets.
std::pair<int, int> ExpectIsSetDisjointness(const Example& e, int marks,
                                            int vocab) {
  const auto& tokens = e.tokens;
  const int length = tokens.size();
  const int begin = std::find(tokens.begin(), tokens.end(), 1) - tokens.begin();
  const int middle =
      std::find(tokens.begin(), tokens.end(), 2) - tokens.begin();
  for (int t = 0; t < begin; ++t) {
    EXPECT_EQ(tokens[t], 0);
    EXPECT_EQ(e.roles[t], TokenRole::kFiller);
  }
  std::set<int32_t> first, second, both;
  for (int t = begin + 1; t < length - marks; ++t) {
    EXPECT_EQ(e.roles[t], TokenRole::kContext);
    if (t == middle) continue;
    EXPECT_TRUE(4 <= tokens[t] && tokens[t] < vocab) << tokens[t];
    EXPECT_TRUE((t < middle ? first : second).insert(tokens[t]).second)
        << "an element stands twice in a set";
  }
  std::set_intersection(first.begin(), first.end(), second.begin(),
                        second.end(), std::inserter(both, both.begin()));
  EXPECT_EQ(both.size(), 1);
  for (int t = length - marks; t < length; ++t) {
    EXPECT_EQ(tokens[t], 3);
    EXPECT_EQ(e.roles[t], TokenRole::kQuery);
  }
  for (int t = 0; t + 1 < length; ++t) EXPECT_EQ(e.targets[t], kUnscored);
  EXPECT_EQ(e.targets.back(), *both.begin());
  EXPECT_GT(e.origins.back(), middle);
  EXPECT_EQ(tokens[e.origins.back()], e.targets.back());
  return {first.size(), second.size()};
}

TEST(SetDisjointnessTest, ExamplesAreAsDefined) {
  struct Case {
    int length, short_size, vocab, marks, long_size;
  };
  for (const Case& c : std::vector<Case>{{64, 8, 128, 3, 51},
                                         {16, 3, 24, 3, 8},
                                         {5, 1, 5, 1, 1},      // the smallest
                                         {64, 30, 64, 1, 31},  // all elements
                                         {13, 4, 16, 3, 4}}) {
    SCOPED_TRACE(testing::Message() << "length " << c.length << ", short "
                                    << c.short_size << ", vocab " << c.vocab);
    for (const std::string order : {"mixed", "short_first", "long_first"}) {
      const std::unique_ptr<Task> task =
          Make({{"length", std::to_string(c.length)},
                {"short", std::to_string(c.short_size)},
                {"vocab", std::to_string(c.vocab)},
                {"marks", std::to_string(c.marks)},
                {"order", order}});
      int short_first = 0;
      for (uint64_t index = 0; index < 50; ++index) {
        const auto [first, second] = ExpectIsSetDisjointness(
            TrainExample(*task, index), c.marks, c.vocab);
        EXPECT_EQ(std::min(first, second), c.short_size);
        EXPECT_EQ(std::max(first, second), c.long_size);
        short_first += first < second;
      }
      if (c.short_size == c.long_size) continue;
      if (order == "mixed") {
        EXPECT_TRUE(10 < short_first && short_first < 40) << short_first;
      } else {
        EXPECT_EQ(short_first, order == "short_first" ? 50 : 0);
      }
    }
  }
}

TEST(SetDisjointnessTest, PublishedSizesAreDrawnBySplit) {
  const std::unique_ptr<Task> task = Make({{"length", "787"},
                                           {"vocab", "2048"},
                                           {"sizes", "published"},
                                           {"marks", "1"}});
  const auto sizes = [&](Split split) {
    std::map<std::pair<int, int>, int64_t> counts;
    Example e;
    for (uint64_t index = 0; index < 1000; ++index) {
      task->Generate(split, 0, index, &e);
      ++counts[ExpectIsSetDisjointness(e, 1, 2048)];
    }
    std::vector<int64_t> drawn;
    for (const auto& [pair, count] : counts) drawn.push_back(count);
    ExpectUniform(drawn);
    return counts;
  };
  const auto training = sizes(Split::kTrain);
  EXPECT_EQ(training.size(), 12);
  EXPECT_EQ(training.count({64, 16}), 1);
  EXPECT_EQ(training.count({4, 256}), 1);
  EXPECT_EQ(training.count({16, 768}), 0);
  EXPECT_EQ(sizes(Split::kValidation).size(), 12);
  const auto test = sizes(Split::kTest);
  EXPECT_EQ(test.size(), 20);
  EXPECT_EQ(test.count({32, 1}), 1);
  EXPECT_EQ(test.count({16, 768}), 1);
  EXPECT_EQ(test.count({64, 16}), 0);
}

TEST(SetDisjointnessTest, DrawsAreUniform) {
  const std::unique_ptr<Task> task = Make({{"length", "14"},
                                           {"short", "3"},
                                           {"vocab", "16"},
                                           {"order", "short_first"}});
  std::vector<int64_t> shared(12), first(3), second(6), other(12);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    ++shared[e.targets.back() - 4];
    ++other[e.tokens[1] - 4];
    for (int i = 0; i < 3; ++i) first[i] += e.tokens[1 + i] == e.targets.back();
    ++second[e.origins.back() - 5];
  }
  ExpectUniform(shared);
  ExpectUniform(other);
  ExpectUniform(first);
  ExpectUniform(second);
}

TEST(SetDisjointnessTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task =
      Make({{"length", "16"}, {"short", "3"}, {"vocab", "24"}});
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 20);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 3);
  ExpectGuessScores(*task, 5000, task->ChanceScore(),
                    [](const Example&) { return std::vector<int32_t>{9}; });
  // What stands before the question is in the short set or in the long one.
  EXPECT_DOUBLE_EQ(task->Floors().ngram, 1.0 / 20);
  const std::unique_ptr<Task> one_mark =
      Make({{"length", "14"}, {"short", "3"}, {"vocab", "24"}, {"marks", "1"}});
  EXPECT_DOUBLE_EQ(one_mark->Floors().ngram, (1.0 / 3 + 1.0 / 8) / 2);
  ExpectGuessScores(
      *one_mark, 5000, one_mark->Floors().ngram,
      [](const Example& e) { return std::vector<int32_t>{e.tokens[12]}; });
}

TEST(SetDisjointnessTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make({});
  std::string marks;
  for (int32_t token = 0; token < 4; ++token) marks += task->TokenText(token);
  EXPECT_EQ(marks, "_$|=");
  EXPECT_EQ(task->TokenText(4), "0");
  EXPECT_EQ(task->TokenText(63), "59");
}

TEST(SetDisjointnessTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("set_disjointness"),
            "quick: length=64 short=8 vocab=64 order=mixed sizes=fill "
            "marks=3\n"
            "smoke: length=16 short=3 vocab=24 order=mixed sizes=fill marks=3\n"
            "published/just_read_twice: length=787 short=8 vocab=2048 "
            "order=mixed sizes=published marks=1\n");
}

TEST(SetDisjointnessTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("set_disjointness", {{"short", "30"}}),
            "set_disjointness: short=30 needs length >= 65 (two sets, two "
            "tokens before them, marks=3), not 64");
  EXPECT_EQ(Refusal("set_disjointness", {{"vocab", "61"}}),
            "set_disjointness: sets of 8 and 51 need vocab >= 62 (all elements "
            "differ but one), not 61");
  EXPECT_EQ(
      Refusal("set_disjointness", {{"sizes", "published"}, {"vocab", "2048"}}),
      "set_disjointness: sets of 16 and 64 need length >= 85 (two tokens "
      "before them, marks=3), not 64");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("set_disjointness", {{"short", "29"}}).ok());
  EXPECT_TRUE(TryMakeTask("set_disjointness", {{"vocab", "62"}}).ok());
}

}  // namespace
}  // namespace mneme
