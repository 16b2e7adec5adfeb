// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(BootstrapTest, IsAboutTheNormalIntervalForManyTrials) {
  constexpr int kTrials = 400;
  std::vector<double> values;
  Random random(1, StreamId("bootstrap test"));
  for (int i = 0; i < kTrials; ++i) values.push_back(3 + 2 * random.Normal());
  const Measurement m = Bootstrap(kTrials, 0).Mean(values);
  double sum = 0;
  for (double x : values) sum += x;
  EXPECT_NEAR(m.mean(), sum / kTrials, 1e-12);
  const double half = 1.96 * 2 / std::sqrt(kTrials);
  EXPECT_NEAR(m.high() - m.mean(), half, 0.15 * half);
  EXPECT_NEAR(m.mean() - m.low(), half, 0.15 * half);
}

TEST(BootstrapTest, HoldsTheTruthAboutAsOftenAsItSays) {
  constexpr int kTimes = 400;
  for (int trials : {6, 16, 60}) {
    int held = 0;
    for (int time = 0; time < kTimes; ++time) {
      Random random(2, StreamId("bootstrap test"), time);
      std::vector<double> values(trials);
      for (double& x : values) x = random.Uniform();
      const Measurement m = Bootstrap(trials, time).Mean(values);
      held += m.low() <= 0.5 && 0.5 <= m.high() ? 1 : 0;
    }
    // 380 expected, give or take 4.4; of 6 trials the middle 95% of samples
    // holds it 340 times.
    EXPECT_NEAR(held, 380, 10) << trials;
  }
}

TEST(BootstrapTest, TakesAnyStatisticAndIsReproducible) {
  const std::vector<double> values = {5, 1, 4, 2, 3};
  const auto largest = [&](absl::Span<const int64_t> trials) {
    double top = 0;
    for (int64_t t : trials) top = std::max(top, values[t]);
    return top;
  };
  const Measurement m = Bootstrap(5, 7).Interval(largest);
  EXPECT_EQ(m.mean(), 5);
  EXPECT_EQ(m.high(), 5);
  EXPECT_LE(m.low(), 2);  // P(no 3, 4 or 5) = 0.4^5 = 0.01
  EXPECT_EQ(m.SerializeAsString(),
            Bootstrap(5, 7).Interval(largest).SerializeAsString());
}

TEST(BootstrapTest, OfTrialsThatAgreeHasNoWidth) {
  const Measurement m = Bootstrap(3, 0).Mean({0.25, 0.25, 0.25});
  EXPECT_EQ(m.low(), 0.25);
  EXPECT_EQ(m.high(), 0.25);
}

}  // namespace
}  // namespace mneme
