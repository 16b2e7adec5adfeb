// SPDX-License-Identifier: Apache-2.0

#include "harness/training_set.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "harness/trainer.h"

namespace mneme {
namespace {

using testing::ElementsAre;

TrainingSet Make(const OptionValues& values, uint64_t seed = 0) {
  OptionValues all = {{"batch", "4"}};
  all.insert(all.end(), values.begin(), values.end());
  const auto options = Options::Parse(TrainOptionSpecs(), all);
  EXPECT_TRUE(options.ok()) << options.status();
  return TrainingSet(*options, seed);
}

std::vector<uint64_t> Epoch(TrainingSet* set, int64_t epoch) {
  std::vector<uint64_t> numbers;
  const int64_t steps = set->steps_per_epoch();
  for (int64_t step = epoch * steps; step < (epoch + 1) * steps; ++step) {
    const auto batch = set->Batch(step);
    numbers.insert(numbers.end(), batch.begin(), batch.end());
  }
  return numbers;
}

TEST(TrainingSet, EndlessExamplesAreNeverSeenTwice) {
  TrainingSet set = Make({});
  EXPECT_EQ(set.steps_per_epoch(), 0);
  EXPECT_THAT(set.Batch(0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(set.Batch(1), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(set.Batch(1000), ElementsAre(4000, 4001, 4002, 4003));
}

TEST(TrainingSet, InFixedOrderEveryEpochHasTheSameBatches) {
  TrainingSet set = Make({{"train_examples", "10"}, {"order", "fixed"}});
  EXPECT_EQ(set.steps_per_epoch(), 3);
  for (int64_t epoch : {0, 1, 7}) {
    EXPECT_THAT(set.Batch(3 * epoch), ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(set.Batch(3 * epoch + 1), ElementsAre(4, 5, 6, 7));
    EXPECT_THAT(set.Batch(3 * epoch + 2), ElementsAre(8, 9));
  }
}

TEST(TrainingSet, ShuffledEveryEpochHasAllExamplesInAnOrderOfItsOwn) {
  TrainingSet set = Make({{"train_examples", "100"}});
  std::vector<uint64_t> all(100);
  std::iota(all.begin(), all.end(), 0);
  const std::vector<uint64_t> first = Epoch(&set, 0), second = Epoch(&set, 1);
  EXPECT_NE(first, all);
  EXPECT_NE(first, second);
  for (std::vector<uint64_t> epoch : {first, second}) {
    std::sort(epoch.begin(), epoch.end());
    EXPECT_EQ(epoch, all) << "each exactly once";
  }
  EXPECT_EQ(Epoch(&set, 0), first) << "a function of the epoch's number";
  TrainingSet other = Make({{"train_examples", "100"}}, /*seed=*/1);
  EXPECT_NE(Epoch(&other, 0), first);
}

TEST(TrainingSet, ASetSmallerThanABatchIsOneStep) {
  TrainingSet set = Make({{"train_examples", "3"}, {"order", "fixed"}});
  EXPECT_EQ(set.steps_per_epoch(), 1);
  EXPECT_THAT(set.Batch(5), ElementsAre(0, 1, 2));
}

}  // namespace
}  // namespace mneme
