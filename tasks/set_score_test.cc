// SPDX-License-Identifier: Apache-2.0

#include "tasks/set_score.h"

#include <set>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

void ExpectScore(const std::vector<int32_t>& predicted,
                 const std::vector<int32_t>& wanted, double precision,
                 double recall, double f1, bool exact) {
  const SetScore score = ScoreSet(predicted, wanted);
  EXPECT_DOUBLE_EQ(score.precision, precision);
  EXPECT_DOUBLE_EQ(score.recall, recall);
  EXPECT_DOUBLE_EQ(score.f1, f1);
  EXPECT_EQ(score.exact, exact);
}

TEST(SetScoreTest, ScoresByHand) {
  ExpectScore({1, 2, 3}, {1, 2, 3}, 1, 1, 1, true);
  ExpectScore({3, 1, 2}, {1, 2, 3}, 1, 1, 1, true);
  ExpectScore({1, 2, 9}, {1, 2, 3, 4}, 2.0 / 3, 0.5, 4.0 / 7, false);
  ExpectScore({7, 8}, {1, 2}, 0, 0, 0, false);
  ExpectScore({1, 2, 3, 4}, {2}, 0.25, 1, 0.4, false);
  ExpectScore({2}, {1, 2, 3, 4}, 1, 0.25, 0.4, false);
}

TEST(SetScoreTest, RepetitionsCountOnce) {
  ExpectScore({1, 1, 1, 1}, {1, 2, 3, 4}, 1, 0.25, 0.4, false);
  ExpectScore({5, 5, 1}, {1, 2}, 0.5, 0.5, 0.5, false);
  ExpectScore({1, 2, 2, 1}, {2, 1, 1}, 1, 1, 1, true);
}

TEST(SetScoreTest, EmptySets) {
  ExpectScore({}, {}, 1, 1, 1, true);
  ExpectScore({}, {1}, 0, 0, 0, false);
  ExpectScore({1}, {}, 0, 0, 0, false);
}

TEST(SetScoreTest, AgreesWithTheDefinitionOnRandomSets) {
  Random random(/*seed=*/0, StreamId("set_score_test"));
  for (int trial = 0; trial < 1000; ++trial) {
    std::vector<int32_t> predicted(1 + random.Below(8));
    std::vector<int32_t> wanted(1 + random.Below(8));
    for (int32_t& token : predicted) token = random.Below(9);
    for (int32_t& token : wanted) token = random.Below(9);
    const std::set<int32_t> p(predicted.begin(), predicted.end());
    const std::set<int32_t> w(wanted.begin(), wanted.end());
    double common = 0;
    for (const int32_t token : p) common += w.count(token);
    const double precision = common / p.size();
    const double recall = common / w.size();
    const double f1 =
        common == 0 ? 0 : 2 * precision * recall / (precision + recall);
    const SetScore score = ScoreSet(predicted, wanted);
    EXPECT_DOUBLE_EQ(score.precision, precision);
    EXPECT_DOUBLE_EQ(score.recall, recall);
    EXPECT_NEAR(score.f1, f1, 1e-12);
    EXPECT_EQ(score.exact, p == w);
  }
}

TEST(SetScoreTest, WantedTokensAreThoseOfScoredPositions) {
  Example example;
  example.targets = {kUnscored, 4, kUnscored, 0, 4};
  EXPECT_EQ(WantedTokens(example), (std::vector<int32_t>{4, 0, 4}));
}

// Wants the set {1}, with a second slot for it.
class WantsOne : public SetTask {
 public:
  int64_t vocabulary() const override { return 8; }
  int64_t length() const override { return 2; }
  void Generate(Split, uint64_t, uint64_t, Example* example) const override {
    *example = {{0, 0}, {1, 1}, {TokenRole::kQuery, TokenRole::kQuery}};
  }
  double ChanceScore() const override { return 0; }
  double ContextGuessScore() const override { return 0; }
};

TEST(SetTaskTest, ScoresRecallAndDetailsTheRest) {
  const WantsOne task;
  Example example;
  task.Generate(Split::kTest, 0, 0, &example);
  EXPECT_DOUBLE_EQ(task.Score(example, {5, 1}), 1);
  EXPECT_DOUBLE_EQ(task.Score(example, {5, 6}), 0);
  const std::vector<double> details = task.Details(example, {5, 1});
  ASSERT_EQ(details.size(), task.DetailNames().size());
  EXPECT_DOUBLE_EQ(details[0], 0.5);
  EXPECT_DOUBLE_EQ(details[1], 2.0 / 3);
  EXPECT_DOUBLE_EQ(details[2], 0);
}

}  // namespace
}  // namespace mneme
