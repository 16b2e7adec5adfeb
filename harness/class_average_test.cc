// SPDX-License-Identifier: Apache-2.0

#include "harness/class_average.h"

#include <cmath>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(ClassAverage, RareClassesCountAsMuchAsFrequentOnes) {
  ClassAverage average(5);
  for (int i = 0; i < 98; ++i) average.Add(1, 1);
  average.Add(2, 1);
  average.Add(2, 2);
  // 98 of 98 and 1 of 2; classes 0, 3 and 4 do not occur.
  EXPECT_DOUBLE_EQ(average.mean(), (1.0 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(average.mean_stderr(), std::sqrt(0.25 / 2) / 2);
}

TEST(ClassAverage, AClassThatIsGivenAndNeverWantedIsAMistake) {
  ClassAverage average(4);
  average.Add(0, 0);
  average.Add(0, 3);
  EXPECT_DOUBLE_EQ(average.mean(), (0.5 + 0) / 2);
}

TEST(ClassAverage, OfNothingIsZero) {
  EXPECT_EQ(ClassAverage(4).mean(), 0);
  EXPECT_EQ(ClassAverage(4).mean_stderr(), 0);
}

}  // namespace
}  // namespace mneme
