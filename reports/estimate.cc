// SPDX-License-Identifier: Apache-2.0

#include "reports/estimate.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <cstddef>
#include <limits>

namespace mneme {
namespace {

using Binomial = boost::math::binomial_distribution<double>;

constexpr double kAlpha = 1 - kConfidence;
constexpr double kMostTrials = 1e12;

double NormalQuantile() {
  return quantile(boost::math::normal(), 1 - kAlpha / 2);
}

Estimate FromOneSeed(const SeedScore& score) {
  const double p = std::clamp(score.accuracy, 0.0, 1.0);
  const double variance = score.standard_error * score.standard_error;
  // A score varies no more than a coin toss does, so a test is worth at least
  // its examples. The upper end keeps the quantiles below computable.
  const double trials = std::clamp(
      variance > 0 ? p * (1 - p) / variance : 0.0,
      std::max(1.0, static_cast<double>(score.examples)), kMostTrials);
  Estimate estimate;
  estimate.mean = estimate.smallest = estimate.largest = p;
  estimate.low = std::min(
      p, Binomial::find_lower_bound_on_p(trials, p * trials, kAlpha / 2));
  estimate.high = std::max(
      p, Binomial::find_upper_bound_on_p(trials, p * trials, kAlpha / 2));
  estimate.standard_error =
      (estimate.high - estimate.low) / (2 * NormalQuantile());
  estimate.degrees_of_freedom = std::numeric_limits<double>::infinity();
  return estimate;
}

// Twice the upper tail of the t distribution, which at infinitely many degrees
// of freedom is the normal one.
double TwoSidedPValue(double t, double degrees_of_freedom) {
  if (std::isinf(degrees_of_freedom)) {
    return 2 * cdf(complement(boost::math::normal(), t));
  }
  return 2 * cdf(complement(boost::math::students_t(degrees_of_freedom), t));
}

}  // namespace

Estimate EstimateAccuracy(absl::Span<const SeedScore> scores) {
  if (scores.size() == 1) return FromOneSeed(scores[0]);
  const double n = static_cast<double>(scores.size());
  Estimate estimate;
  estimate.smallest = 1;
  double within = 0;
  for (const SeedScore& score : scores) {
    const Estimate one = FromOneSeed(score);
    estimate.mean += one.mean / n;
    estimate.smallest = std::min(estimate.smallest, one.mean);
    estimate.largest = std::max(estimate.largest, one.mean);
    within += one.standard_error * one.standard_error / (n * n);
  }
  double between = 0;
  for (const SeedScore& score : scores) {
    const double deviation = score.accuracy - estimate.mean;
    between += deviation * deviation / (n * (n - 1));
  }
  estimate.standard_error = std::sqrt(std::max(between, within));
  estimate.degrees_of_freedom = n - 1;
  const double half_width =
      estimate.standard_error *
      quantile(boost::math::students_t(n - 1), 1 - kAlpha / 2);
  estimate.low = std::max(0.0, estimate.mean - half_width);
  estimate.high = std::min(1.0, estimate.mean + half_width);
  return estimate;
}

double DifferencePValue(const Estimate& a, const Estimate& b) {
  const double va = a.standard_error * a.standard_error;
  const double vb = b.standard_error * b.standard_error;
  // Welch and Satterthwaite; a term with infinitely many degrees is 0.
  const double spread =
      va * va / a.degrees_of_freedom + vb * vb / b.degrees_of_freedom;
  const double degrees = spread > 0 ? (va + vb) * (va + vb) / spread
                                    : std::numeric_limits<double>::infinity();
  return TwoSidedPValue(std::abs(a.mean - b.mean) / std::sqrt(va + vb),
                        degrees);
}

std::vector<RankRange> RankRanges(absl::Span<const Estimate> estimates) {
  struct Pair {
    size_t a, b;
    double p_value;
  };
  const size_t n = estimates.size();
  std::vector<Pair> pairs;
  for (size_t a = 0; a < n; ++a) {
    for (size_t b = a + 1; b < n; ++b) {
      pairs.push_back({a, b, DifferencePValue(estimates[a], estimates[b])});
    }
  }
  std::sort(pairs.begin(), pairs.end(),
            [](const Pair& x, const Pair& y) { return x.p_value < y.p_value; });
  std::vector<RankRange> ranks(n, RankRange{1, static_cast<int>(n)});
  for (size_t i = 0; i < pairs.size(); ++i) {
    // Holm: the first pair that is not significant ends the search.
    if (pairs[i].p_value * static_cast<double>(pairs.size() - i) > kAlpha) {
      break;
    }
    const auto [a, b, p_value] = pairs[i];
    const bool a_is_better = estimates[a].mean > estimates[b].mean;
    ++ranks[a_is_better ? b : a].first;
    --ranks[a_is_better ? a : b].last;
  }
  return ranks;
}

}  // namespace mneme
