// SPDX-License-Identifier: Apache-2.0
//
// What is particular to common words extraction. What all tasks have in common
// is in common_words_contract_test.

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

struct Sizes {
  int length, common, common_repeats, other_repeats, vocab;
};

std::unique_ptr<Task> Make(const Sizes& s, const std::string& order = "fresh") {
  return MakeTaskOrFail("common_words",
                        {{"length", std::to_string(s.length)},
                         {"common", std::to_string(s.common)},
                         {"common_repeats", std::to_string(s.common_repeats)},
                         {"other_repeats", std::to_string(s.other_repeats)},
                         {"vocab", std::to_string(s.vocab)},
                         {"order", order}});
}

constexpr Sizes kQuick = {64, 3, 8, 2, 40};

TEST(CommonWordsTest, ExamplesAreAsDefined) {
  struct Case {
    Sizes sizes;
    int others, blanks;
  };
  for (const Case& c :
       {Case{kQuick, 17, 1}, Case{{24, 2, 4, 1, 32}, 12, 0},
        Case{{4096, 10, 30, 3, 8192}, 1261, 1},
        Case{{7, 1, 2, 1, 6}, 1, 1},          // a vocabulary of two words
        Case{{128, 3, 8, 2, 40}, 31, 37}}) {  // more room than words
    const Sizes& s = c.sizes;
    SCOPED_TRACE(s.length);
    const std::unique_ptr<Task> task = Make(s);
    EXPECT_EQ(task->length(), s.length);
    EXPECT_EQ(task->vocabulary(), s.vocab);
    for (uint64_t index = 0; index < 20; ++index) {
      const Example e = TrainExample(*task, index);
      const int places = s.length - 2 - s.common;
      std::map<int32_t, int> counts;
      for (int t = 0; t < places; ++t) {
        ++counts[e.tokens[t]];
        EXPECT_EQ(e.targets[t], kUnscored);
        EXPECT_EQ(e.roles[t],
                  e.tokens[t] == 0 ? TokenRole::kFiller : TokenRole::kContext);
      }
      EXPECT_EQ(counts[0], c.blanks);
      counts.erase(0);
      std::vector<int32_t> common;
      for (const auto& [token, count] : counts) {
        EXPECT_GE(token, 3 + s.common);
        if (count == s.common_repeats) {
          common.push_back(token);
        } else {
          EXPECT_EQ(count, s.other_repeats);
        }
      }
      EXPECT_EQ(counts.size(), s.common + c.others);
      EXPECT_EQ(WantedTokens(e), common) << "the common ones, ascending";
      EXPECT_EQ(e.tokens[places], 1);
      EXPECT_EQ(e.tokens[places + 1], 2);
      for (int i = 0; i < s.common; ++i) {
        EXPECT_EQ(e.tokens[places + 2 + i], 3 + i);
        EXPECT_EQ(e.roles[places + 2 + i], TokenRole::kQuery);
      }
    }
  }
}

// By position of the context, in how many examples a common word stands there.
std::vector<int64_t> AnswerPlaces(const Task& task, int places, int examples) {
  std::vector<int64_t> counts(places);
  for (int index = 0; index < examples; ++index) {
    const Example e = TrainExample(task, index);
    const std::vector<int32_t> wanted = WantedTokens(e);
    for (int t = 0; t < places; ++t) {
      counts[t] += std::count(wanted.begin(), wanted.end(), e.tokens[t]);
    }
  }
  return counts;
}

// The leak of RULER: its shuffle, seeded anew for each sample, puts the answers
// at the same places of all samples.
TEST(CommonWordsTest, NoPlaceHoldsAnswersMoreOftenThanAnother) {
  constexpr int kExamples = 2000;
  ExpectUniform(AnswerPlaces(*Make(kQuick), 59, kExamples));
  for (const int64_t count :
       AnswerPlaces(*Make(kQuick, "fixed"), 59, kExamples)) {
    EXPECT_TRUE(count == 0 || count == kExamples) << count;
  }
}

TEST(CommonWordsTest, EveryWordIsCommonEquallyOften) {
  const std::unique_ptr<Task> task = Make(kQuick);
  std::vector<int64_t> counts(34);
  for (uint64_t index = 0; index < 3000; ++index) {
    for (const int32_t word : WantedTokens(TrainExample(*task, index))) {
      ++counts[word - 6];
    }
  }
  ExpectUniform(counts);
}

TEST(CommonWordsTest, TheAnswerIsASet) {
  const std::unique_ptr<Task> task = Make(kQuick);
  const Example e = TrainExample(*task, 0);
  const std::vector<int32_t> w = WantedTokens(e);
  EXPECT_EQ(task->Score(e, {w[2], w[0], w[1]}), 1);
  EXPECT_DOUBLE_EQ(task->Score(e, {w[1], w[1], w[1]}), 1.0 / 3);
  EXPECT_EQ(task->DetailNames(),
            (std::vector<std::string>{"precision", "f1", "exact"}));
  EXPECT_EQ(task->Details(e, {w[1], w[1], w[1]}),
            (std::vector<double>{1, 0.5, 0}));
}

TEST(CommonWordsTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(kQuick);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 3.0 / 34);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 3.0 / 20);
  Random random(/*seed=*/0, StreamId("common_words_test"));
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [&](const Example&) {
    std::vector<uint64_t> drawn(3);
    DrawDistinct(34, absl::MakeSpan(drawn), &random);
    std::vector<int32_t> guess;
    for (const uint64_t word : drawn) guess.push_back(6 + word);
    return guess;
  });
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [](const Example&) {
    return std::vector<int32_t>{6, 20, 39};
  });
  ExpectGuessScores(
      *task, 5000, task->ContextGuessScore(), [&](const Example& e) {
        std::set<int32_t> present(e.tokens.begin(), e.tokens.begin() + 59);
        present.erase(0);
        std::vector<int32_t> guess(present.begin(), present.end());
        Shuffle(absl::MakeSpan(guess), &random);
        guess.resize(3);
        return guess;
      });
}

TEST(CommonWordsTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(
      ProfilesText("common_words"),
      "quick: length=64 common=3 common_repeats=8 other_repeats=2 vocab=40 "
      "order=fresh\n"
      "smoke: length=24 common=2 common_repeats=4 other_repeats=1 vocab=32 "
      "order=fresh\n"
      "published/ruler: length=4096 common=10 common_repeats=30 "
      "other_repeats=3 vocab=8192 order=fixed\n");
}

TEST(CommonWordsTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make(kQuick);
  EXPECT_EQ(task->TokenText(3), "?1");
  EXPECT_EQ(task->TokenText(6), "w1");
}

TEST(CommonWordsTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("common_words", {{"common_repeats", "2"}}),
            "common_words: common_repeats=2 must be more than "
            "other_repeats=2");
  EXPECT_EQ(Refusal("common_words", {{"length", "30"}}),
            "common_words: common=3 words 8 times and another 2 times need "
            "length >= 31 with the question, not 30");
  EXPECT_EQ(Refusal("common_words", {{"vocab", "9"}}),
            "common_words: common=3 need vocab >= 10 (3 marks, a slot and a "
            "word for each, another word), not 9");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("common_words", {{"common_repeats", "3"}}).ok());
  EXPECT_TRUE(TryMakeTask("common_words", {{"length", "31"}}).ok());
  EXPECT_TRUE(TryMakeTask("common_words", {{"vocab", "10"}}).ok());
}

}  // namespace
}  // namespace mneme
