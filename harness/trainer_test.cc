// SPDX-License-Identifier: Apache-2.0
//
// Training itself, on a task that is made to be learned at once, or never.

#include "harness/trainer.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// The answer at a scored position is the token there or, if hopeless, random.
// Even examples are scored at one position, odd ones at two.
class EchoTask : public Task {
 public:
  explicit EchoTask(bool hopeless = false) : hopeless_(hopeless) {}
  int64_t vocabulary() const override { return 8; }
  int64_t length() const override { return 4; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    Random random(seed, StreamId(SplitName(split)), index);
    example->tokens.resize(4);
    example->targets.assign(4, kUnscored);
    example->roles.assign(4, TokenRole::kContext);
    for (int32_t& token : example->tokens) {
      token = static_cast<int32_t>(random.Below(8));
    }
    for (size_t t = 3 - index % 2; t < 4; ++t) {
      example->targets[t] = hopeless_ ? static_cast<int32_t>(random.Below(8))
                                      : example->tokens[t];
      example->roles[t] = TokenRole::kQuery;
    }
  }
  double ChanceScore() const override { return 1.0 / 8; }
  double ContextGuessScore() const override { return 1.0 / 8; }

 private:
  bool hopeless_;
};

Options TrainOptions(const OptionValues& more) {
  OptionValues values = {{"steps", "60"},
                         {"batch", "16"},
                         {"eval_every", "10"},
                         {"warmup", "0"},
                         {"learning_rate", "0.02"},
                         {"shard_tokens", "16"},
                         {"validation_examples", "32"}};
  values.insert(values.end(), more.begin(), more.end());
  auto options = Options::Parse(TrainOptionSpecs(), values);
  EXPECT_TRUE(options.ok()) << options.status();
  return *options;
}

std::unique_ptr<Model> SmallModel() {
  const Variant& variant = **Variants().Find("softmax");
  auto model = Model::Create(
      variant, *Options::Parse(variant.descriptor.options),
      *Options::Parse(ModelOptionSpecs(), {{"width", "16"}, {"layers", "1"}}),
      /*vocabulary=*/8, /*max_length=*/4, DType::kFloat32, /*seed=*/0);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

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

}  // namespace
}  // namespace mneme
