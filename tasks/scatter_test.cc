// SPDX-License-Identifier: Apache-2.0

#include "tasks/scatter.h"

#include <map>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

TEST(ScatterTest, EveryArrangementIsEquallyLikely) {
  Random random(/*seed=*/0, StreamId("scatter_test"));
  std::map<std::vector<int64_t>, int64_t> counts;
  for (int trial = 0; trial < 6000; ++trial) {
    ++counts[ScatterRuns(2, 3, 9, &random)];
  }
  // Two runs of three in nine places: 3 free ones before, between and after.
  EXPECT_EQ(counts.size(), 10);
  std::vector<int64_t> all;
  for (const auto& [starts, count] : counts) {
    EXPECT_GE(starts[0], 0);
    EXPECT_GE(starts[1], starts[0] + 3);
    EXPECT_LE(starts[1] + 3, 9);
    all.push_back(count);
  }
  ExpectUniform(all);
}

TEST(ScatterTest, RunsMayTakeAllPlaces) {
  Random random(/*seed=*/0, StreamId("scatter_test"));
  EXPECT_EQ(ScatterRuns(3, 2, 6, &random), (std::vector<int64_t>{0, 2, 4}));
  EXPECT_EQ(ScatterRuns(0, 2, 6, &random), std::vector<int64_t>{});
}

}  // namespace
}  // namespace mneme
