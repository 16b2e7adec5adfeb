// SPDX-License-Identifier: Apache-2.0

#include "harness/score_sheet.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

// Sequences of 80 tokens, of which tests say what they are.
class Sheet80 : public Task {
 public:
  int64_t vocabulary() const override { return 10; }
  int64_t length() const override { return 80; }
  void Generate(Split, uint64_t, uint64_t, Example*) const override {}
  double ChanceScore() const override { return 0.1; }
  double ContextGuessScore() const override { return 0.1; }
  std::vector<std::string> DetailNames() const override { return {"first"}; }
  std::vector<double> Details(
      const Example&, absl::Span<const int32_t> predictions) const override {
    return {predictions[0] / 10.0};
  }
};

// Scored at the positions given, with target 5 and the origin given.
Example At(const std::vector<int>& positions, const std::vector<int>& origins) {
  Example example;
  example.tokens.assign(80, 0);
  example.targets.assign(80, kUnscored);
  example.origins.assign(80, kNowhere);
  for (size_t i = 0; i < positions.size(); ++i) {
    example.targets[positions[i]] = 5;
    example.origins[positions[i]] = origins[i];
  }
  return example;
}

TEST(ScoreSheet, MeansAndErrorAreThoseOfExamples) {
  const Sheet80 task;
  ScoreSheet sheet(&task);
  sheet.Add(At({10, 20}, {0, 1}), {}, {1.0, 3.0}, {5, 4});  // 1/2
  sheet.Add(At({10}, {0}), {}, {8.0}, {5});                 // 1
  const Score score = sheet.Total();
  EXPECT_EQ(score.examples, 2);
  EXPECT_DOUBLE_EQ(score.accuracy, 0.75);
  // Deviations of 1/4 from the mean: variance 1/8, of the mean 1/16.
  EXPECT_DOUBLE_EQ(score.accuracy_stderr, 0.25);
  EXPECT_DOUBLE_EQ(score.loss, 4.0) << "of positions, not of examples";
  ASSERT_EQ(score.details.size(), 1);
  EXPECT_DOUBLE_EQ(score.details[0], 0.5);
}

TEST(ScoreSheet, DepthIsWhereTheAnswerWasSaid) {
  const Sheet80 task;
  ScoreSheet sheet(&task);
  // Two positions a depth: 0 and 1, 2 and 3, ...
  sheet.Add(At({50, 60, 70}, {1, 2, kNowhere}), {}, {1, 1, 1}, {5, 0, 5});
  sheet.Add(At({79}, {78}), {}, {1}, {5});
  sheet.Add(At({79}, {3}), {}, {1}, {5});
  const Score score = sheet.Total();
  ASSERT_EQ(score.depths.size(), kDepths);
  int64_t answers = 0;
  for (const Tally& tally : score.depths) answers += tally.answers;
  EXPECT_EQ(answers, 4) << "one was said nowhere";
  EXPECT_EQ(score.depths[0].right, 1);
  EXPECT_EQ(score.depths[1].answers, 2);
  EXPECT_EQ(score.depths[1].right, 1);
  EXPECT_EQ(score.depths[39].right, 1);
}

TEST(ScoreSheet, LossIsToldByPowersOfTwo) {
  const Sheet80 task;
  ScoreSheet sheet(&task);
  sheet.Add(At({0, 2, 3, 79}, {kNowhere, kNowhere, kNowhere, kNowhere}), {},
            {1, 2, 4, 8}, {5, 5, 5, 5});
  const Score score = sheet.Total();
  EXPECT_TRUE(score.depths.empty());
  ASSERT_EQ(score.positions.size(), 3) << "[0, 1), [2, 4) and [64, 80)";
  EXPECT_EQ(score.positions[0].last, 1);
  EXPECT_EQ(score.positions[1].first, 2);
  EXPECT_EQ(score.positions[1].answers, 2);
  EXPECT_DOUBLE_EQ(score.positions[1].loss, 3);
  EXPECT_EQ(score.positions[2].first, 64);
  EXPECT_EQ(score.positions[2].last, 80);
}

// What is read in pieces keeps scored positions alone.
TEST(ScoreSheet, PartsOfExamplesSayWhereTheyStood) {
  const Sheet80 task;
  ScoreSheet whole(&task), parts(&task);
  const Example example = At({7, 70}, {3, 60});
  whole.Add(example, {}, {1, 2}, {5, 1});
  Example scored;
  scored.targets = {5, 5};
  scored.origins = {3, 60};
  parts.Add(scored, {7, 70}, {1, 2}, {5, 1});
  const Score a = whole.Total(), b = parts.Total();
  EXPECT_EQ(a.accuracy, b.accuracy);
  for (int64_t depth = 0; depth < kDepths; ++depth) {
    EXPECT_EQ(a.depths[depth].right, b.depths[depth].right) << depth;
  }
  ASSERT_EQ(a.positions.size(), b.positions.size());
  EXPECT_EQ(a.positions[1].first, b.positions[1].first);
}

}  // namespace
}  // namespace mneme
