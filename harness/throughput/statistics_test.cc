// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/statistics.h"

#include <cmath>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(Statistics, DescribesAnOddNumberOfValues) {
  const Statistics s = Describe({4, 1, 9, 2, 3});
  EXPECT_EQ(s.count, 5u);
  EXPECT_EQ(s.median, 3);
  EXPECT_EQ(s.min, 1);
  EXPECT_EQ(s.max, 9);
  EXPECT_DOUBLE_EQ(s.mean, 3.8);
  EXPECT_EQ(s.mad, 1);  // of 1, 2, 6, 1, 0
  // Squares of -2.8, -1.8, -0.8, 0.2, 5.2 sum up to 38.8.
  EXPECT_DOUBLE_EQ(s.cv, std::sqrt(38.8 / 4) / 3.8);
}

TEST(Statistics, DescribesAnEvenNumberOfValues) {
  const Statistics s = Describe({1, 100, 3, 2});
  EXPECT_EQ(s.median, 2.5);
  EXPECT_EQ(s.mad, 1);  // of 1.5, 97.5, 0.5, 0.5
}

TEST(Statistics, DescribesOneValueAndNone) {
  const Statistics one = Describe({7});
  EXPECT_EQ(one.median, 7);
  EXPECT_EQ(one.cv, 0);
  EXPECT_EQ(one.mad, 0);
  EXPECT_EQ(Describe({}).count, 0u);
  EXPECT_EQ(Describe({}).median, 0);
  EXPECT_EQ(Describe({0, 0}).cv, 0);
}

}  // namespace
}  // namespace mneme
