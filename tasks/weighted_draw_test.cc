// SPDX-License-Identifier: Apache-2.0

#include "tasks/weighted_draw.h"

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// Expects counts to fit the probabilities, which sum to 1. Seeds are fixed; a
// sound draw fails one in a million.
void ExpectFits(const std::vector<double>& probabilities,
                const std::vector<int64_t>& counts) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double statistic = 0;
  int cells = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = total * probabilities[i];
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    ASSERT_GE(expected, 5) << "too few draws for a chi-square test";
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++cells;
  }
  const boost::math::chi_squared distribution(cells - 1);
  EXPECT_LT(statistic, quantile(complement(distribution, 1e-6)));
}

std::vector<uint64_t> Draw(const WeightedDraw& draw, size_t k, Random* random) {
  std::vector<uint64_t> out(k);
  draw(absl::MakeSpan(out), random);
  return out;
}

// Sequential draws: the second is in proportion to what the first left.
TEST(WeightedDrawTest, PairsAreAsLikelyAsRenormalisingMakesThem) {
  for (const std::vector<double>& weights : std::vector<std::vector<double>>{
           {1, 1, 1}, {5, 2, 1, 3}, {1, 0.5, 1.0 / 3, 0.25, 0.2, 1.0 / 6}}) {
    const size_t n = weights.size();
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> probabilities(n * n);
    for (size_t a = 0; a < n; ++a) {
      for (size_t b = 0; b < n; ++b) {
        if (a == b) continue;
        probabilities[a * n + b] =
            weights[a] / sum * weights[b] / (sum - weights[a]);
      }
    }
    const WeightedDraw draw(weights);
    Random random(1, StreamId("pairs"), n);
    std::vector<int64_t> counts(n * n);
    for (int i = 0; i < 30000; ++i) {
      const std::vector<uint64_t> drawn = Draw(draw, 2, &random);
      ASSERT_LT(drawn[0], n);
      ASSERT_LT(drawn[1], n);
      ++counts[drawn[0] * n + drawn[1]];
    }
    ExpectFits(probabilities, counts);
  }
}

// The reference: one item after the other by a linear scan, in doubles.
std::vector<uint64_t> DrawByScanning(std::vector<double> weights, size_t k,
                                     Random* random) {
  std::vector<uint64_t> drawn;
  for (size_t i = 0; i < k; ++i) {
    double rest = random->Uniform() *
                  std::accumulate(weights.begin(), weights.end(), 0.0);
    size_t item = 0;
    while (rest >= weights[item]) rest -= weights[item++];
    weights[item] = 0;
    drawn.push_back(item);
  }
  return drawn;
}

// Both read the same numbers, so they agree draw by draw, not just on average.
TEST(WeightedDrawTest, AgreesWithScanning) {
  for (const size_t n : {1, 2, 3, 7, 8, 9, 64, 100}) {
    std::vector<double> weights(n);
    for (size_t i = 0; i < n; ++i) weights[i] = std::pow(i + 1.0, -0.99);
    const WeightedDraw draw(weights);
    for (uint64_t index = 0; index < 50; ++index) {
      Random random(1, 2, index);
      Random same(1, 2, index);
      EXPECT_EQ(Draw(draw, n, &random), DrawByScanning(weights, n, &same));
    }
  }
}

TEST(WeightedDrawTest, DrawingAllIsAPermutation) {
  for (const size_t n : {1, 2, 5, 16, 17, 1000}) {
    std::vector<double> weights(n);
    for (size_t i = 0; i < n; ++i) weights[i] = 1.0 + i % 7;
    Random random(3, 4, n);
    const std::vector<uint64_t> drawn = Draw(WeightedDraw(weights), n, &random);
    EXPECT_EQ(std::set<uint64_t>(drawn.begin(), drawn.end()).size(), n);
    EXPECT_EQ(*std::max_element(drawn.begin(), drawn.end()), n - 1);
  }
}

TEST(WeightedDrawTest, NegligibleWeightsAreDrawnLastButDrawn) {
  Random random(5, 6);
  EXPECT_EQ(Draw(WeightedDraw({1e-300, 1, 1e-300}), 1, &random),
            std::vector<uint64_t>{1});
  const std::vector<uint64_t> all =
      Draw(WeightedDraw({1e-300, 1e300, 1e-300}), 3, &random);
  EXPECT_EQ(all[0], 1);
  EXPECT_EQ(all[1] + all[2], 2);
}

TEST(WeightedDrawTest, NothingFromNothing) {
  Random random(5, 6);
  EXPECT_TRUE(Draw(WeightedDraw({}), 0, &random).empty());
  EXPECT_TRUE(Draw(WeightedDraw({1}), 0, &random).empty());
}

}  // namespace
}  // namespace mneme
