// SPDX-License-Identifier: Apache-2.0
//
// What is particular to frequent words extraction. What all tasks have in
// common is in frequent_words_contract_test.

#include <algorithm>
#include <cmath>
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

std::unique_ptr<Task> Make(int length, int answers, int ranks, double alpha,
                           int vocab, const std::string& order = "fresh") {
  return MakeTaskOrFail("frequent_words", {{"length", std::to_string(length)},
                                           {"answers", std::to_string(answers)},
                                           {"ranks", std::to_string(ranks)},
                                           {"alpha", std::to_string(alpha)},
                                           {"vocab", std::to_string(vocab)},
                                           {"order", order}});
}

std::unique_ptr<Task> Quick(const std::string& order = "fresh") {
  return Make(128, 3, 8, 2, 40, order);
}

// Euler: zeta(2) = pi^2 / 6 and zeta(4) = pi^4 / 90.
const double kZeta2 = std::acos(-1.0) * std::acos(-1.0) / 6;
const double kZeta4 = std::pow(std::acos(-1.0), 4) / 90;

std::vector<int64_t> Counts(double n, int ranks, double alpha, double zeta) {
  std::vector<int64_t> counts;
  for (int r = 1; r <= ranks; ++r) {
    counts.push_back(std::floor(n / std::pow(r, alpha) / zeta));
  }
  while (counts.back() == 0) counts.pop_back();
  return counts;
}

TEST(FrequentWordsTest, ExamplesAreAsDefined) {
  struct Case {
    int length, answers, ranks;
    double alpha, zeta;
    int vocab;
  };
  for (const Case& c :
       {Case{128, 3, 8, 2, kZeta2, 40}, Case{48, 2, 5, 2, kZeta2, 32},
        Case{4096, 3, 81, 2, kZeta2, 8192}, Case{2000, 3, 40, 4, kZeta4, 64},
        // The vocabulary has no more than noise and 4 words.
        Case{128, 3, 5, 2, kZeta2, 11}}) {
    SCOPED_TRACE(testing::Message() << c.length << " " << c.alpha);
    const int option = c.ranks == c.length / 50 ? 0 : std::max(c.ranks, 8);
    const std::unique_ptr<Task> task =
        Make(c.length, c.answers, c.vocab == 32 ? 5 : option, c.alpha, c.vocab);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), c.vocab);
    const int places = c.length - 2 - c.answers;
    // The definition's N, by trying them all.
    std::vector<int64_t> expected;
    for (int n = 1; n < 4 * places; ++n) {
      const auto counts = Counts(n, c.ranks, c.alpha, c.zeta);
      int64_t total = 0;
      for (const int64_t count : counts) total += count;
      if (counts.size() > 0 && total <= places) expected = counts;
    }
    const int32_t noise = 3 + c.answers;
    for (uint64_t index = 0; index < 20; ++index) {
      const Example e = TrainExample(*task, index);
      std::map<int32_t, int64_t> counts;
      for (int t = 0; t < places; ++t) {
        ++counts[e.tokens[t]];
        EXPECT_EQ(e.targets[t], kUnscored);
      }
      const int64_t blanks = counts[0];
      EXPECT_LE(blanks, 10);
      counts.erase(0);
      EXPECT_GE(counts.begin()->first, noise);
      EXPECT_EQ(counts[noise], expected[0]);
      const std::vector<int32_t> wanted = WantedTokens(e);
      ASSERT_EQ(wanted.size(), c.answers);
      for (int i = 0; i < c.answers; ++i) {
        EXPECT_EQ(counts[wanted[i]], expected[i + 1]) << "rank " << i + 2;
      }
      std::vector<int64_t> all;
      for (const auto& [token, count] : counts) all.push_back(count);
      std::sort(all.rbegin(), all.rend());
      EXPECT_EQ(all, expected);
      EXPECT_EQ(e.tokens[places], 1);
      EXPECT_EQ(e.tokens[places + 1], 2);
      for (int i = 0; i < c.answers; ++i) {
        EXPECT_EQ(e.tokens[places + 2 + i], 3 + i);
      }
    }
  }
}

// The numbers of RULER at N = 1000, worked out by hand.
TEST(FrequentWordsTest, CountsByHand) {
  EXPECT_EQ(Counts(1000, 6, 2, kZeta2),
            (std::vector<int64_t>{607, 151, 67, 37, 24, 16}));
}

// By position of the context, how often a word asked for stands there.
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
TEST(FrequentWordsTest, NoPlaceHoldsAnswersMoreOftenThanAnother) {
  constexpr int kExamples = 2000;
  ExpectUniform(AnswerPlaces(*Quick(), 123, kExamples));
  for (const int64_t count : AnswerPlaces(*Quick("fixed"), 123, kExamples)) {
    EXPECT_TRUE(count == 0 || count == kExamples) << count;
  }
}

TEST(FrequentWordsTest, EveryWordHasEveryRankEquallyOften) {
  const std::unique_ptr<Task> task = Quick();
  for (int slot = 0; slot < 3; ++slot) {
    std::vector<int64_t> counts(33);
    for (uint64_t index = 0; index < 3000; ++index) {
      ++counts[WantedTokens(TrainExample(*task, index))[slot] - 7];
    }
    ExpectUniform(counts);
  }
}

TEST(FrequentWordsTest, TheAnswerIsASet) {
  const std::unique_ptr<Task> task = Quick();
  const Example e = TrainExample(*task, 0);
  const std::vector<int32_t> w = WantedTokens(e);
  EXPECT_EQ(task->Score(e, {w[2], w[0], w[1]}), 1);
  EXPECT_DOUBLE_EQ(task->Score(e, {w[1], w[1], w[1]}), 1.0 / 3);
  EXPECT_EQ(task->Details(e, {w[1], w[1], w[1]}),
            (std::vector<double>{1, 0.5, 0}));
}

TEST(FrequentWordsTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Quick();
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 3.0 / 33);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 3.0 / 7);
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [](const Example&) {
    return std::vector<int32_t>{7, 20, 39};
  });
  Random random(/*seed=*/0, StreamId("frequent_words_test"));
  ExpectGuessScores(
      *task, 5000, task->ContextGuessScore(), [&](const Example& e) {
        std::set<int32_t> present(e.tokens.begin(), e.tokens.begin() + 123);
        present.erase(0);
        present.erase(6);
        std::vector<int32_t> guess(present.begin(), present.end());
        Shuffle(absl::MakeSpan(guess), &random);
        guess.resize(3);
        return guess;
      });
}

TEST(FrequentWordsTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("frequent_words"),
            "quick: length=128 answers=3 ranks=8 alpha=2 vocab=32 order=fresh\n"
            "smoke: length=48 answers=2 ranks=5 alpha=2 vocab=32 order=fresh\n"
            "published/ruler: length=4096 answers=3 ranks=0 alpha=2 vocab=8192 "
            "order=fixed\n");
}

TEST(FrequentWordsTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Quick();
  EXPECT_EQ(task->TokenText(5), "?3");
  EXPECT_EQ(task->TokenText(6), "...");
  EXPECT_EQ(task->TokenText(7), "w1");
}

TEST(FrequentWordsTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("frequent_words", {{"ranks", "0"}}),
            "frequent_words: answers=3 need at least 5 ranks (noise, answers, "
            "another word), not 2 (ranks=0: length / 50)");
  EXPECT_EQ(Refusal("frequent_words", {{"vocab", "10"}}),
            "frequent_words: answers=3 need vocab >= 11 (3 marks, a slot and a "
            "word for each, noise, another word), not 10");
  EXPECT_EQ(Refusal("frequent_words", {{"answers", "126"}, {"ranks", "200"}}),
            "frequent_words: answers=126 need length > 128 for the question, "
            "not 128");
  EXPECT_EQ(Refusal("frequent_words", {{"length", "28"}}),
            "frequent_words: at length=28 the words of rank 3 and 4 both occur "
            "1 times; more length or less alpha tells them apart");
  // One step to the right side of each.
  EXPECT_TRUE(
      TryMakeTask("frequent_words", {{"ranks", "0"}, {"length", "250"}}).ok());
  EXPECT_TRUE(TryMakeTask("frequent_words", {{"vocab", "11"}}).ok());
  EXPECT_TRUE(TryMakeTask("frequent_words", {{"length", "64"}}).ok());
}

}  // namespace
}  // namespace mneme
