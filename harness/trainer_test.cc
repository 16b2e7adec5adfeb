// SPDX-License-Identifier: Apache-2.0
//
// Training itself.

#include "harness/trainer.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "harness/echo_task.h"

namespace mneme {
namespace {

TEST(Trainer, StopsWhenValidationIsGoodEnough) {
  const EchoTask task;
  auto model = SmallModel();
  Trainer trainer(model.get(), &task, TrainOptions({{"steps", "400"}}), 0, 1);
  size_t calls = 0;
  auto result = trainer.Train([&](const ProgressPoint&) { ++calls; });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->steps, 400);
  EXPECT_GE(result->validation_accuracy, 0.995);
  EXPECT_EQ(calls, result->curve.size());
  EXPECT_EQ(result->curve.back().step, result->steps);
  EXPECT_FALSE(result->diverged);
}

TEST(Trainer, LosesPatienceWhenNothingImproves) {
  const EchoTask task(/*hopeless=*/true);
  auto model = SmallModel();
  Trainer trainer(model.get(), &task,
                  TrainOptions({{"steps", "1000"}, {"patience", "3"}}), 0, 1);
  auto result = trainer.Train(nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_LT(result->steps, 1000);
  // The first of the best points is followed by exactly three others.
  size_t best = 0;
  for (size_t i = 0; i < result->curve.size(); ++i) {
    if (result->curve[i].validation_accuracy >
        result->curve[best].validation_accuracy) {
      best = i;
    }
  }
  EXPECT_EQ(result->curve.size(), best + 4);
}

TEST(Trainer, LeavesTheBestWeightsItSaw) {
  const EchoTask task(/*hopeless=*/true);
  auto model = SmallModel();
  Trainer trainer(model.get(), &task, TrainOptions({}), 0, 1);
  auto result = trainer.Train(nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  double best = 0;
  for (const ProgressPoint& p : result->curve) {
    best = std::max(best, p.validation_accuracy);
  }
  EXPECT_EQ(result->validation_accuracy, best);
  auto again = trainer.Evaluate(Split::kValidation, 32);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->accuracy, best);
}

TEST(Trainer, EvaluatesTheMeanOverExamplesHoweverTheyAreCut) {
  const EchoTask task;
  auto model = SmallModel();
  constexpr int64_t kMany = 2501;  // several rounds, a ragged last shard
  Trainer coarse(model.get(), &task, TrainOptions({}), 0, 1);
  Trainer fine(model.get(), &task, TrainOptions({{"shard_tokens", "4"}}), 0, 3);
  auto one = coarse.Evaluate(Split::kTest, kMany);
  auto other = fine.Evaluate(Split::kTest, kMany);
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_EQ(one->examples, kMany);
  EXPECT_DOUBLE_EQ(one->accuracy, other->accuracy);
  EXPECT_NEAR(one->loss, other->loss, 1e-5);
  // Scores lie in {0, 1/2, 1}: the variance is at most a coin's.
  const double variance = one->accuracy_stderr * one->accuracy_stderr * kMany;
  EXPECT_GT(variance, 0);
  EXPECT_LE(variance, one->accuracy * (1 - one->accuracy) * 1.001);
}

TEST(Trainer, AFixedSetIsSeenOnceAnEpoch) {
  EchoTask task;
  std::map<uint64_t, int> times;
  task.seen = [&](Split split, uint64_t index) {
    if (split == Split::kTrain) ++times[index];
  };
  auto model = SmallModel();
  // 7 steps an epoch, the last of them with 4 examples.
  Trainer trainer(
      model.get(), &task,
      TrainOptions(
          {{"train_examples", "100"}, {"steps", "21"}, {"stop_accuracy", "2"}}),
      0, 1);
  auto result = trainer.Train(nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->examples, 300);
  ASSERT_EQ(times.size(), 100);
  EXPECT_EQ(times.rbegin()->first, 99);
  for (const auto& [index, count] : times) EXPECT_EQ(count, 3) << index;
}

TEST(Trainer, ByEpochsTheLearningRateChangesBetweenThem) {
  const EchoTask task;
  auto model = SmallModel();
  Trainer trainer(model.get(), &task,
                  TrainOptions({{"train_examples", "32"},
                                {"schedule", "epoch_cosine"},
                                {"min_learning_rate", "0.004"},
                                {"steps", "4"},
                                {"eval_every", "1"},
                                {"stop_accuracy", "2"}}),
                  0, 1);
  auto result = trainer.Train(nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->curve.size(), 4);
  for (int step : {0, 1}) EXPECT_EQ(result->curve[step].learning_rate, 0.02);
  for (int step : {2, 3}) {
    EXPECT_DOUBLE_EQ(result->curve[step].learning_rate, 0.012);
  }
  Trainer endless(model.get(), &task,
                  TrainOptions({{"schedule", "epoch_cosine"}}), 0, 1);
  EXPECT_EQ(endless.Train(nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Trainer, DropoutIsTheSameForAllThreadsAndNotInEvaluation) {
  const EchoTask task;
  const auto train = [&](const std::string& dropout, int threads) {
    auto model = SmallModel({{"embedding_dropout", dropout}});
    Trainer trainer(model.get(), &task,
                    TrainOptions({{"steps", "20"}, {"stop_accuracy", "2"}}), 0,
                    threads);
    auto before = trainer.Evaluate(Split::kTest, 100);
    auto result = trainer.Train(nullptr);
    EXPECT_TRUE(before.ok() && result.ok());
    return std::vector<double>{before->loss, result->curve[0].train_loss,
                               result->curve[1].validation_loss};
  };
  const std::vector<double> none = train("0", 1), some = train("0.5", 1);
  EXPECT_EQ(some, train("0.5", 3));
  EXPECT_EQ(some[0], none[0]) << "evaluation drops nothing";
  EXPECT_GT(some[1], none[1]) << "training does";
}

TEST(Trainer, DropoutDoesNotDependOnTheCut) {
  const EchoTask task;
  const auto loss = [&](const std::string& shard_tokens) {
    auto model = SmallModel({{"embedding_dropout", "0.5"}});
    Trainer trainer(
        model.get(), &task,
        TrainOptions({{"steps", "10"}, {"shard_tokens", shard_tokens}}), 0, 1);
    return trainer.Train(nullptr)->curve[0].train_loss;
  };
  EXPECT_NEAR(loss("4"), loss("24"), 1e-5);
}

// Remembers what the model answered.
class WitnessTask : public EchoTask {
 public:
  using EchoTask::EchoTask;
  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override {
    size_t i = 0;
    for (int32_t target : example.targets) {
      if (target == kUnscored) continue;
      wanted[target] += 1;
      found[target] += predictions[i++] == target;
    }
    return EchoTask::Score(example, predictions);
  }
  mutable std::map<int32_t, double> wanted, found;
};

TEST(Trainer, AccuracyCanBeTheMeanOverClasses) {
  const WitnessTask task(/*hopeless=*/true);
  auto model = SmallModel();
  Trainer trainer(model.get(), &task,
                  TrainOptions({{"average", "classes"}, {"steps", "5"}}), 0, 1);
  ASSERT_TRUE(trainer.Train(nullptr).ok());
  task.wanted.clear();
  task.found.clear();
  auto score = trainer.Evaluate(Split::kTest, 50);
  ASSERT_TRUE(score.ok()) << score.status();
  double sum = 0;
  for (const auto& [token, count] : task.wanted) {
    sum += task.found[token] / count;
  }
  ASSERT_EQ(task.wanted.size(), 8) << "so all that is given is wanted";
  EXPECT_DOUBLE_EQ(score->accuracy, sum / 8);
  EXPECT_GT(score->accuracy, 0);
  EXPECT_LT(score->accuracy, 1);
}

}  // namespace
}  // namespace mneme
