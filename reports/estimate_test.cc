// SPDX-License-Identifier: Apache-2.0

#include "reports/estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace mneme {
namespace {

Estimate OneSeed(double accuracy, int64_t examples = 1000) {
  return EstimateAccuracy({SeedScore{
      accuracy, std::sqrt(accuracy * (1 - accuracy) / examples), examples}});
}

std::vector<std::vector<int>> Ranks(const std::vector<Estimate>& estimates) {
  std::vector<std::vector<int>> ranks;
  for (const RankRange& range : RankRanges(estimates)) {
    ranks.push_back({range.first, range.last});
  }
  return ranks;
}

// By R's binom.test(900, 1000)$conf.int.
TEST(EstimateAccuracy, OneSeedIsTheBinomialInterval) {
  const Estimate estimate = OneSeed(0.9);
  EXPECT_NEAR(estimate.low, 0.8797, 1e-4);
  EXPECT_NEAR(estimate.high, 0.9179, 1e-4);
  EXPECT_EQ(estimate.mean, 0.9);
  EXPECT_TRUE(std::isinf(estimate.degrees_of_freedom));
}

// The rule of three: no failure in 1000 leaves room for about 3.7 at 2.5%.
TEST(EstimateAccuracy, NoFailureIsNoProofOfPerfection) {
  const Estimate estimate = OneSeed(1.0);
  EXPECT_EQ(estimate.high, 1.0);
  EXPECT_NEAR(estimate.low, std::pow(0.025, 1.0 / 1000), 1e-6);
  EXPECT_GT(estimate.standard_error, 0);
  EXPECT_EQ(OneSeed(0.0).low, 0.0);
}

// Eight queries an example: a smaller standard error is more trials.
TEST(EstimateAccuracy, SmallerStandardErrorIsNarrower) {
  const Estimate narrow = EstimateAccuracy({SeedScore{0.9, 0.003, 1000}});
  const Estimate wide = EstimateAccuracy({SeedScore{0.9, 0.009, 1000}});
  EXPECT_LT(narrow.high - narrow.low, wide.high - wide.low);
}

// mean 0.9, standard deviation 0.02, t(2) = 4.3027.
TEST(EstimateAccuracy, SeveralSeedsUseStudentsT) {
  const std::vector<SeedScore> scores = {
      {0.88, 0.001, 100000}, {0.90, 0.001, 100000}, {0.92, 0.001, 100000}};
  const Estimate estimate = EstimateAccuracy(scores);
  EXPECT_NEAR(estimate.mean, 0.9, 1e-12);
  EXPECT_NEAR(estimate.high - estimate.mean, 4.3027 * 0.02 / std::sqrt(3.0),
              1e-4);
  EXPECT_EQ(estimate.degrees_of_freedom, 2);
  EXPECT_EQ(estimate.smallest, 0.88);
  EXPECT_EQ(estimate.largest, 0.92);
}

TEST(EstimateAccuracy, TwoSeedsThatAgreeByAccidentSeparateNothing) {
  const SeedScore high = {0.90, 0.0095, 1000}, low = {0.87, 0.0106, 1000};
  const Estimate better = EstimateAccuracy({high, high});
  EXPECT_EQ(better.degrees_of_freedom, 1);
  EXPECT_GT(DifferencePValue(better, EstimateAccuracy({low, low})), 0.05);
}

TEST(EstimateAccuracy, AgreeingSeedsAreNotCertain) {
  const SeedScore score = {1.0, 0.0, 1000};
  const Estimate estimate = EstimateAccuracy({score, score, score});
  EXPECT_LT(estimate.low, 1.0);
  EXPECT_GT(estimate.standard_error, 0);
}

TEST(EstimateAccuracy, StaysBetweenZeroAndOne) {
  const Estimate estimate =
      EstimateAccuracy({SeedScore{0.5, 0.01, 10}, SeedScore{1.0, 0.0, 10}});
  EXPECT_GE(estimate.low, 0);
  EXPECT_EQ(estimate.high, 1);
}

TEST(RankRanges, ClearDifferencesAreRanked) {
  EXPECT_THAT(Ranks({OneSeed(0.5), OneSeed(0.99), OneSeed(0.8)}),
              testing::ElementsAre(testing::ElementsAre(3, 3),
                                   testing::ElementsAre(1, 1),
                                   testing::ElementsAre(2, 2)));
}

TEST(RankRanges, InseparableRowsShareRanks) {
  EXPECT_THAT(Ranks({OneSeed(0.951), OneSeed(0.950), OneSeed(0.2)}),
              testing::ElementsAre(testing::ElementsAre(1, 2),
                                   testing::ElementsAre(1, 2),
                                   testing::ElementsAre(3, 3)));
}

// a > c is plain, a = b and b = c are not refuted: b may be anywhere.
TEST(RankRanges, NotBeingSeparableIsNotTransitive) {
  EXPECT_THAT(Ranks({OneSeed(0.92), OneSeed(0.90), OneSeed(0.88)}),
              testing::ElementsAre(testing::ElementsAre(1, 2),
                                   testing::ElementsAre(1, 3),
                                   testing::ElementsAre(2, 3)));
}

// p = 0.03 for the one pair; among 190 pairs that happens by luck alone.
TEST(RankRanges, ManyComparisonsNeedMoreEvidence) {
  const Estimate better = OneSeed(0.928), worse = OneSeed(0.900);
  ASSERT_LT(DifferencePValue(better, worse), 0.05);
  EXPECT_THAT(Ranks({better, worse}),
              testing::ElementsAre(testing::ElementsAre(1, 1),
                                   testing::ElementsAre(2, 2)));
  std::vector<Estimate> crowd(19, worse);
  crowd.push_back(better);
  EXPECT_EQ(Ranks(crowd).back(), (std::vector<int>{1, 20}));
}

TEST(RankRanges, OneRowAndNone) {
  EXPECT_THAT(Ranks({OneSeed(0.5)}),
              testing::ElementsAre(testing::ElementsAre(1, 1)));
  EXPECT_TRUE(Ranks({}).empty());
}

}  // namespace
}  // namespace mneme
