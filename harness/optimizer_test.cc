// SPDX-License-Identifier: Apache-2.0

#include "harness/optimizer.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(LearningRate, WarmsUpThenFollowsACosine) {
  AdamWConfig config;
  config.learning_rate = 1;
  config.warmup_steps = 4;
  config.total_steps = 14;
  EXPECT_DOUBLE_EQ(LearningRate(config, 0), 0.25);
  EXPECT_DOUBLE_EQ(LearningRate(config, 3), 1);
  EXPECT_DOUBLE_EQ(LearningRate(config, 4), 1);
  EXPECT_NEAR(LearningRate(config, 9), 0.5, 1e-12);
  EXPECT_NEAR(LearningRate(config, 14), 0, 1e-12);
  EXPECT_NEAR(LearningRate(config, 100), 0, 1e-12);
}

TEST(LearningRate, ByEpochsIsConstantWithinOne) {
  AdamWConfig config;
  config.learning_rate = 1;
  config.min_learning_rate = 0.2;
  config.warmup_steps = 0;
  config.total_steps = 19;
  config.steps_per_epoch = 5;  // so the last of four epochs is cut short
  EXPECT_DOUBLE_EQ(LearningRate(config, 0), 1);
  EXPECT_DOUBLE_EQ(LearningRate(config, 4), 1);
  const double second = 0.2 + 0.8 * (1 + std::cos(std::acos(-1.0) / 4)) / 2;
  EXPECT_DOUBLE_EQ(LearningRate(config, 5), second);
  EXPECT_DOUBLE_EQ(LearningRate(config, 9), second);
  EXPECT_DOUBLE_EQ(LearningRate(config, 10), 0.6);
  EXPECT_DOUBLE_EQ(LearningRate(config, 20), 0.2);
}

TEST(LearningRate, TheCosineEndsAtTheLowestRate) {
  AdamWConfig config;
  config.learning_rate = 1;
  config.min_learning_rate = 0.2;
  config.warmup_steps = 2;
  config.total_steps = 12;
  EXPECT_DOUBLE_EQ(LearningRate(config, 0), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(config, 2), 1);
  EXPECT_DOUBLE_EQ(LearningRate(config, 7), 0.6);
  EXPECT_DOUBLE_EQ(LearningRate(config, 12), 0.2);
}

TEST(AdamW, WithoutGroupsEveryParameterDecaysAtOneRate) {
  AdamWConfig config;
  config.learning_rate = 0.1;
  config.warmup_steps = 0;
  config.weight_decay = 0.5;
  config.parameter_groups = false;
  ParameterSet parameters(DType::kFloat64, 1);
  Parameter* w = parameters.Add("w", {1}, Init::Constant(2));
  Parameter* slow = parameters.Add("slow", {1}, Init::Constant(2), false);
  slow->learning_rate_scale = 0.01;
  AdamW optimizer(&parameters, config);
  GradientBuffer gradients(parameters);
  optimizer.Step(&gradients);
  EXPECT_DOUBLE_EQ(w->value.data<double>()[0], 2 * (1 - 0.1 * 0.5));
  EXPECT_DOUBLE_EQ(slow->value.data<double>()[0], 2 * (1 - 0.1 * 0.5));
}

TEST(AdamW, MatchesTheRecurrenceOfThePaper) {
  AdamWConfig config;
  config.learning_rate = 0.1;
  config.warmup_steps = 0;
  config.total_steps = 10;
  config.weight_decay = 0.5;
  config.clip_norm = 0;
  ParameterSet parameters(DType::kFloat64, 1);
  Parameter* w = parameters.Add("w", {1}, Init::Constant(2));
  Parameter* bias = parameters.Add("b", {1}, Init::Constant(2), false);
  AdamW optimizer(&parameters, config);
  double m = 0, v = 0, expected_w = 2, expected_b = 2;
  for (int t = 1; t <= 5; ++t) {
    const double g = 0.3 * t - 0.7;
    GradientBuffer gradients(parameters);
    gradients.flat().data<double>()[0] = g;
    gradients.flat().data<double>()[1] = g;
    optimizer.Step(&gradients);
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double rate = LearningRate(config, t - 1);
    const double move = rate * (m / (1 - std::pow(0.9, t))) /
                        (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
    expected_w = expected_w - rate * 0.5 * expected_w - move;
    expected_b -= move;
    EXPECT_NEAR(w->value.data<double>()[0], expected_w, 1e-12);
    EXPECT_NEAR(bias->value.data<double>()[0], expected_b, 1e-12);
  }
}

TEST(AdamW, ClipsTheGlobalNorm) {
  AdamWConfig config;
  config.clip_norm = 1;
  ParameterSet parameters(DType::kFloat64, 1);
  parameters.Add("w", {2}, Init::Zeros());
  AdamW optimizer(&parameters, config);
  GradientBuffer gradients(parameters);
  gradients.flat().data<double>()[0] = 3;
  gradients.flat().data<double>()[1] = 4;
  EXPECT_DOUBLE_EQ(optimizer.Step(&gradients), 5);
  EXPECT_NEAR(gradients.flat().data<double>()[0], 0.6, 1e-12);
  EXPECT_NEAR(gradients.flat().data<double>()[1], 0.8, 1e-12);
}

TEST(AdamW, LeavesWeightsAloneWhenTheGradientIsNotFinite) {
  ParameterSet parameters(DType::kFloat32, 1);
  Parameter* w = parameters.Add("w", {2}, Init::Constant(1));
  AdamW optimizer(&parameters, {});
  GradientBuffer gradients(parameters);
  gradients.flat().data<float>()[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(optimizer.Step(&gradients)));
  EXPECT_EQ(w->value.ToDoubles(), (std::vector<double>{1, 1}));
  EXPECT_EQ(optimizer.steps(), 0);
}

TEST(AdamW, MinimisesAQuadratic) {
  AdamWConfig config;
  config.learning_rate = 0.05;
  config.warmup_steps = 0;
  config.total_steps = 400;
  config.weight_decay = 0;
  ParameterSet parameters(DType::kFloat32, 1);
  Parameter* w = parameters.Add("w", {1}, Init::Constant(4));
  AdamW optimizer(&parameters, config);
  for (int i = 0; i < 400; ++i) {
    GradientBuffer gradients(parameters);
    gradients.flat().data<float>()[0] = 2 * (w->value.data<float>()[0] - 1);
    optimizer.Step(&gradients);
  }
  EXPECT_NEAR(w->value.data<float>()[0], 1, 1e-2);
}

}  // namespace
}  // namespace mneme
