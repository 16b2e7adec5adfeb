// SPDX-License-Identifier: Apache-2.0
//
// For tests of training: a task that is made to be learned at once, or never,
// and a model for it.

#ifndef MNEME_HARNESS_ECHO_TASK_H_
#define MNEME_HARNESS_ECHO_TASK_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "attention/tensor/random.h"
#include "attention/variant.h"
#include "gtest/gtest.h"
#include "harness/model.h"
#include "harness/trainer.h"
#include "tasks/task.h"

namespace mneme {

// The answer at a scored position is the token there or, if hopeless, random.
// Even examples are scored at one position, odd ones at two.
class EchoTask : public Task {
 public:
  explicit EchoTask(bool hopeless = false) : hopeless_(hopeless) {}
  int64_t vocabulary() const override { return 8; }
  int64_t length() const override { return 4; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    if (seen) seen(split, index);
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

  // Called with what is generated, by the thread that does it.
  std::function<void(Split, uint64_t)> seen;

 private:
  bool hopeless_;
};

inline Options TrainOptions(const OptionValues& more) {
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

inline std::unique_ptr<Model> SmallModel(const OptionValues& more = {}) {
  OptionValues values = {{"width", "16"}, {"layers", "1"}};
  values.insert(values.end(), more.begin(), more.end());
  const Variant& variant = **Variants().Find("softmax");
  auto model = Model::Create(
      variant, *Options::Parse(variant.descriptor.options),
      *Options::Parse(ModelOptionSpecs(), values),
      /*vocabulary=*/8, /*max_length=*/4, DType::kFloat32, /*seed=*/0);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

}  // namespace mneme

#endif  // MNEME_HARNESS_ECHO_TASK_H_
