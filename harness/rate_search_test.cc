// SPDX-License-Identifier: Apache-2.0

#include "harness/rate_search.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "harness/echo_task.h"

namespace mneme {
namespace {

// Test data want another answer than those that are trained and validated on:
// the better a model is on these, the worse on the others.
class ContraryTask : public EchoTask {
 public:
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    EchoTask::Generate(split, seed, index, example);
    if (split != Split::kTest) return;
    for (int32_t& target : example->targets) {
      if (target != kUnscored) target = (target + 1) % 8;
    }
  }
};

absl::StatusOr<RateSearch> Search(const Task& task,
                                  const OptionValues& values) {
  return TrainAtRates([] { return SmallModel(); }, task, TrainOptions(values),
                      /*seed=*/0, /*threads=*/1, nullptr);
}

TEST(RateSearch, RatesAreGeometric) {
  const std::vector<double> rates = LearningRates(TrainOptions(
      {{"learning_rate", "0.001"}, {"rates", "3"}, {"rate_factor", "10"}}));
  ASSERT_EQ(rates.size(), 3);
  EXPECT_EQ(rates[0], 0.001);
  EXPECT_DOUBLE_EQ(rates[1], 0.01);
  EXPECT_DOUBLE_EQ(rates[2], 0.1);
  EXPECT_EQ(LearningRates(TrainOptions({})), std::vector<double>{0.02});
}

TEST(RateSearch, BetterMeansAccuracyThenLossThenTheLowerRate) {
  const auto attempt = [](bool diverged, double accuracy, double loss,
                          double rate) {
    Attempt a;
    a.learning_rate = rate;
    a.result.diverged = diverged;
    a.result.validation_accuracy = accuracy;
    a.result.validation_loss = loss;
    return a;
  };
  // From the best down.
  const std::vector<Attempt> order = {
      attempt(false, 0.5, 1, 0.2),   attempt(false, 0.4, 1, 0.3),
      attempt(false, 0.4, 2, 0.1),   attempt(false, 0.4, 2, 0.2),
      attempt(true, 0.9, 0.1, 0.01),
  };
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t j = 0; j < order.size(); ++j) {
      EXPECT_EQ(Better(order[i], order[j]), i < j) << i << " and " << j;
    }
  }
}

TEST(RateSearch, ValidationChoosesAndTestDataAreNotLookedAt) {
  ContraryTask task;
  task.seen = [](Split split, uint64_t) { EXPECT_NE(split, Split::kTest); };
  // The lower rate learns nothing, which is the best one can do on test data.
  const OptionValues rates = {{"learning_rate", "0.000002"},
                              {"rates", "2"},
                              {"rate_factor", "1000"},
                              {"steps", "400"}};
  auto search = Search(task, rates);
  ASSERT_TRUE(search.ok()) << search.status();
  ASSERT_EQ(search->attempts.size(), 2);
  EXPECT_EQ(search->best, 1);
  EXPECT_GE(search->attempts[1].result.validation_accuracy, 0.9);
  task.seen = nullptr;
  Trainer trainer(search->model.get(), &task, TrainOptions({}), 0, 1);
  EXPECT_GE(trainer.Evaluate(Split::kValidation, 100)->accuracy, 0.9)
      << "the model is the best attempt's";
  EXPECT_LT(trainer.Evaluate(Split::kTest, 100)->accuracy, 0.05);
}

TEST(RateSearch, TestDataChooseWhereOptionsSaySo) {
  ContraryTask task;
  task.seen = [](Split split, uint64_t) {
    EXPECT_NE(split, Split::kValidation);
  };
  auto search = Search(task, {{"learning_rate", "0.000002"},
                              {"rates", "2"},
                              {"rate_factor", "1000"},
                              {"select", "test"}});
  ASSERT_TRUE(search.ok()) << search.status();
  EXPECT_EQ(search->best, 0);
}

TEST(RateSearch, AttemptsAreWhatTheyWouldBeAlone) {
  const EchoTask task;
  auto both =
      Search(task, {{"rates", "2"}, {"rate_factor", "2"}, {"steps", "20"}});
  auto second = Search(task, {{"learning_rate", "0.04"}, {"steps", "20"}});
  ASSERT_TRUE(both.ok() && second.ok());
  const auto& one = both->attempts[1].result.curve;
  const auto& other = second->attempts[0].result.curve;
  ASSERT_EQ(one.size(), other.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].train_loss, other[i].train_loss);
    EXPECT_EQ(one[i].validation_loss, other[i].validation_loss);
  }
}

}  // namespace
}  // namespace mneme
