// SPDX-License-Identifier: Apache-2.0
//
// What is particular to the state summary. What all tasks have in common is in
// state_summary_contract_test.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int keys, int updates, int vocab) {
  return MakeTaskOrFail("state_summary", {{"length", std::to_string(length)},
                                          {"keys", std::to_string(keys)},
                                          {"updates", std::to_string(updates)},
                                          {"vocab", std::to_string(vocab)}});
}

// Plays the history of an example and expects its end to be what is asked for.
void ExpectIsStateSummary(const Example& example, int keys, int updates,
                          int vocab) {
  const int length = example.tokens.size();
  const int context = 2 * (keys + updates);
  std::map<int32_t, int32_t> value_of;
  std::map<int32_t, int32_t> place_of;
  for (int t = 0; t < context; t += 2) {
    const int32_t key = example.tokens[t];
    const int32_t value = example.tokens[t + 1];
    EXPECT_TRUE(1 <= key && key < vocab / 2) << key;
    EXPECT_TRUE(vocab / 2 <= value && value < vocab) << value;
    EXPECT_EQ(value_of.count(key), t < 2 * keys ? 0 : 1)
        << "first every key, then re-assignments";
    for (const auto& [other, held] : value_of) {
      EXPECT_NE(value, held)
          << "key " << other << " holds the value of " << key;
    }
    value_of[key] = value;
    place_of[key] = t + 1;
  }
  std::set<int32_t> asked;
  for (int t = context; t < length; ++t) {
    if (t < length - keys) {
      EXPECT_EQ(example.tokens[t], 0);
      EXPECT_EQ(example.targets[t], kUnscored);
      EXPECT_EQ(example.roles[t], TokenRole::kFiller);
      continue;
    }
    ASSERT_TRUE(asked.insert(example.tokens[t]).second) << "asked twice";
    ASSERT_TRUE(value_of.count(example.tokens[t]));
    EXPECT_EQ(example.targets[t], value_of[example.tokens[t]]);
    EXPECT_EQ(example.origins[t], place_of[example.tokens[t]]);
    EXPECT_EQ(example.roles[t], TokenRole::kQuery);
  }
  EXPECT_EQ(asked.size(), keys);
}

TEST(StateSummaryTest, ExamplesAreAsDefined) {
  struct Case {
    int length, keys, updates, vocab;
    int expected_updates;
  };
  for (const Case& c : std::vector<Case>{{64, 4, -1, 64, 25},
                                         {64, 4, 3, 64, 3},
                                         {16, 2, -1, 16, 4},
                                         {17, 2, -1, 16, 4},
                                         {5, 1, -1, 4, 0},     // the smallest
                                         {40, 4, 13, 10, 13},  // V = 2 (K + 1)
                                         {256, 8, -1, 33, 115}}) {
    SCOPED_TRACE(testing::Message() << "length " << c.length << ", keys "
                                    << c.keys << ", vocab " << c.vocab);
    const std::unique_ptr<Task> task =
        Make(c.length, c.keys, c.updates, c.vocab);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), c.vocab);
    for (uint64_t index = 0; index < 50; ++index) {
      ExpectIsStateSummary(TrainExample(*task, index), c.keys,
                           c.expected_updates, c.vocab);
    }
  }
}

TEST(StateSummaryTest, DrawsAreUniform) {
  constexpr int kKeys = 2, kUpdates = 2, kVocab = 10;
  const std::unique_ptr<Task> task = Make(12, kKeys, kUpdates, kVocab);
  std::vector<int64_t> keys(4), first(5), later(3), updated(4), order(2);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    ++keys[e.tokens[0] - 1];
    ++first[e.tokens[1] - 5];
    // Which of the two keys is updated first and second.
    ++updated[2 * (e.tokens[4] == e.tokens[0]) + (e.tokens[6] == e.tokens[0])];
    // Which of the values that nobody holds the first update takes.
    int rank = 0;
    for (int32_t value = 5; value < e.tokens[5]; ++value) {
      rank += value != e.tokens[1] && value != e.tokens[3];
    }
    ++later[rank];
    ++order[e.tokens[10] == e.tokens[0]];
  }
  ExpectUniform(keys);
  ExpectUniform(first);
  ExpectUniform(later);
  ExpectUniform(updated);
  ExpectUniform(order);
}

TEST(StateSummaryTest, DetailsTellStaleAnswersFromWrongOnes) {
  const std::unique_ptr<Task> task = Make(12, 2, 2, 100);
  ASSERT_EQ(task->DetailNames(), (std::vector<std::string>{"exact", "stale"}));
  int seen = 0;
  for (uint64_t index = 0; index < 50; ++index) {
    const Example e = TrainExample(*task, index);
    std::vector<int32_t> predictions = WantedTokens(e);
    EXPECT_EQ(task->Details(e, predictions), (std::vector<double>{1, 0}));
    // The first key of the context, answered with its first value.
    const int query = e.tokens[10] == e.tokens[0] ? 0 : 1;
    if (predictions[query] == e.tokens[1]) continue;
    ++seen;
    predictions[query] = e.tokens[1];
    EXPECT_EQ(task->Details(e, predictions), (std::vector<double>{0, 0.5}));
    predictions[query] = e.tokens[3];  // what another key had
    EXPECT_EQ(task->Details(e, predictions), (std::vector<double>{0, 0}));
    EXPECT_EQ(task->Score(e, predictions), 0.5);
  }
  EXPECT_GT(seen, 10);
}

TEST(StateSummaryTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(64, 4, -1, 65);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 33);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 4);
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [](const Example&) {
    return std::vector<int32_t>{40, 41, 40, 64};
  });
  // Whoever always says the final value of the same key.
  ExpectGuessScores(*task, 100, task->ContextGuessScore(),
                    [](const Example& e) {
                      return std::vector<int32_t>(4, WantedTokens(e)[2]);
                    });
}

TEST(StateSummaryTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("state_summary"),
            "quick: length=64 keys=10 updates=-1 vocab=64\n"
            "smoke: length=16 keys=2 updates=-1 vocab=16\n");
}

TEST(StateSummaryTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make(64, 4, -1, 64);
  EXPECT_EQ(task->TokenText(0), "_");
  EXPECT_EQ(task->TokenText(31), "k31");
  EXPECT_EQ(task->TokenText(32), "v0");
}

TEST(StateSummaryTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("state_summary", {{"keys", "21"}}),
            "state_summary: keys=21 and 0 updates need length >= 65 (two "
            "tokens an assignment, two blanks, one a query), not 64");
  EXPECT_EQ(Refusal("state_summary", {{"updates", "17"}}),
            "state_summary: keys=10 and 17 updates need length >= 66 (two "
            "tokens an assignment, two blanks, one a query), not 64");
  EXPECT_EQ(
      Refusal("state_summary", {{"vocab", "21"}}),
      "state_summary: keys=10 need vocab >= 22 (keys are different tokens "
      "in 1..vocab/2-1), not 21");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("state_summary", {{"keys", "20"}}).ok());
  EXPECT_TRUE(TryMakeTask("state_summary", {{"updates", "16"}}).ok());
  EXPECT_TRUE(TryMakeTask("state_summary", {{"vocab", "22"}}).ok());
}

}  // namespace
}  // namespace mneme
