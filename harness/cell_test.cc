// SPDX-License-Identifier: Apache-2.0
//
// Whole cells, small enough for a test: determinism, learning, divergence.

#include "harness/cell.h"

#include <memory>
#include <string>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"
#include "tasks/task.h"

namespace mneme {
namespace {

CellRequest Request(const std::string& variant,
                    const std::vector<std::string>& set = {}) {
  CellRequest request;
  request.variant = variant;
  request.task = "mqar";
  request.profile = "smoke";
  request.set = set;
  return request;
}

ResultRecord RunOk(const CellRequest& request) {
  absl::StatusOr<ResultRecord> record = RunCell(request, nullptr);
  EXPECT_TRUE(record.ok()) << record.status();
  return record.ok() ? *record : ResultRecord();
}

// What is linked in, without what tests register.
std::vector<std::string> Shipped() {
  std::vector<std::string> names;
  for (const std::string& name : Variants().Names()) {
    if (name != "testing_only") names.push_back(name);
  }
  return names;
}

TEST(Cell, EveryVariantRunsAndDescribesItself) {
  for (const std::string& name : Shipped()) {
    const ResultRecord record = RunOk(Request(name));
    EXPECT_EQ(record.status(), STATUS_OK) << record.status_message();
    EXPECT_EQ(record.variant(), name);
    EXPECT_EQ(record.metrics().steps(), 6);
    EXPECT_EQ(record.metrics().curve_size(), 2);
    EXPECT_EQ(record.metrics().test_examples(), 16);
    EXPECT_GT(record.parameters(), 0);
    EXPECT_GT(record.train_options_size(), 0);
    EXPECT_GT(record.timing().train_tokens_per_second(), 0);
  }
}

TEST(Cell, MetricsAreTheSameBytesForEveryNumberOfThreads) {
  for (const std::string& name : Shipped()) {
    CellRequest request = Request(name);
    const std::string one = RunOk(request).metrics().SerializeAsString();
    for (int threads : {2, 5}) {
      request.threads = threads;
      EXPECT_EQ(RunOk(request).metrics().SerializeAsString(), one)
          << name << " with " << threads << " threads";
    }
    request.threads = 1;
    request.seed = 1;
    EXPECT_NE(RunOk(request).metrics().SerializeAsString(), one)
        << "another seed must be another run";
  }
}

TEST(Cell, SoftmaxLearnsToRecall) {
  const ResultRecord record = RunOk(Request(
      "softmax",
      {"task.length=16", "task.pairs=3", "task.vocab=16", "model.width=32",
       "train.steps=400", "train.batch=32", "train.eval_every=50",
       "train.learning_rate=0.01", "train.warmup=10", "train.test_examples=200",
       "train.shard_tokens=512"}));
  EXPECT_GE(record.metrics().accuracy(), 0.95);
  EXPECT_TRUE(record.metrics().has_steps_to_90());
  EXPECT_LT(record.metrics().steps(), 400) << "early stop on validation";
  EXPECT_TRUE(record.timing().has_seconds_to_90());
}

TEST(Cell, DivergenceIsARecordedStatus) {
  const ResultRecord record = RunOk(Request(
      "linear",
      {"train.learning_rate=10", "train.clip_norm=0", "train.steps=3000",
       "train.warmup=0", "train.weight_decay=10", "train.eval_every=3000"}));
  EXPECT_EQ(record.status(), STATUS_DIVERGED);
  EXPECT_GT(record.status_step(), 0);
  EXPECT_NE(record.status_message().find("step"), std::string::npos);
}

TEST(Cell, ARateThatDivergesLoses) {
  const ResultRecord record = RunOk(Request(
      "linear", {"train.learning_rate=0.01", "train.rates=2",
                 "train.rate_factor=1000", "train.clip_norm=0",
                 "train.steps=3000", "train.warmup=0", "train.weight_decay=10",
                 "train.eval_every=3000", "train.stop_accuracy=0"}));
  EXPECT_EQ(record.status(), STATUS_OK) << record.status_message();
  const Metrics& metrics = record.metrics();
  ASSERT_EQ(metrics.attempts_size(), 2);
  EXPECT_DOUBLE_EQ(metrics.attempts(1).learning_rate(), 10);
  EXPECT_TRUE(metrics.attempts(1).diverged());
  EXPECT_FALSE(metrics.attempts(0).diverged());
  EXPECT_EQ(metrics.learning_rate(), 0.01);
  EXPECT_EQ(metrics.steps(), metrics.attempts(0).steps());
  EXPECT_EQ(metrics.validation_accuracy(),
            metrics.attempts(0).validation_accuracy());
}

TEST(Cell, SettingsThatContradictEachOtherAreErrors) {
  const auto error = [](const std::vector<std::string>& set) {
    return std::string(CheckCell(Request("softmax", set)).message());
  };
  EXPECT_NE(error({"schedule=epoch_cosine"}).find("train_examples"),
            std::string::npos);
  EXPECT_NE(error({"min_learning_rate=1"}).find("learning_rate"),
            std::string::npos);
  EXPECT_NE(error({"rates=9", "rate_factor=10"}).find("rates"),
            std::string::npos);
}

TEST(Cell, EveryProfileOfEveryTaskCanBeRun) {
  for (const std::string& name : Tasks().Names()) {
    CellRequest request = Request("softmax");
    request.task = name;
    for (const TaskProfile& p : (*Tasks().Find(name))->descriptor.profiles) {
      request.profile = p.name;
      EXPECT_TRUE(CheckCell(request).ok()) << name << ", " << p.name;
    }
    request.profile = "standard";
    EXPECT_TRUE(CheckCell(request).ok()) << name << ", standard";
  }
}

TEST(Cell, WhatAVariantCannotDoIsARecordedStatus) {
  Variant variant;
  variant.descriptor.name = "testing_only";
  variant.descriptor.streaming = false;
  variant.make_mixer =
      [](const MixerConfig&) -> absl::StatusOr<std::unique_ptr<Mixer>> {
    return absl::UnimplementedError("takes no such length");
  };
  ASSERT_TRUE(RegisterVariant(variant));
  const ResultRecord record = RunOk(Request("testing_only"));
  EXPECT_EQ(record.status(), STATUS_UNSUPPORTED);
  EXPECT_EQ(record.status_message(), "takes no such length");
}

TEST(Cell, ATaskWhoseFutureGivesAnswersAwayWantsCausalVariants) {
  TaskPlugin task = **Tasks().Find("mqar");
  task.descriptor.name = "testing_only";
  task.descriptor.requires_causal = true;
  ASSERT_TRUE(RegisterTask(task));
  CellRequest request = Request("linformer_encoder");
  request.task = "testing_only";
  const ResultRecord record = RunOk(request);
  EXPECT_EQ(record.status(), STATUS_UNSUPPORTED);
  EXPECT_NE(record.status_message().find("looks ahead"), std::string::npos);
  EXPECT_FALSE(record.has_state_bytes());
  request.variant = "linformer";
  EXPECT_EQ(RunOk(request).status(), STATUS_OK);
}

TEST(Cell, AStateIsMeasuredWhereItIsLargest) {
  const ResultRecord softmax = RunOk(Request("softmax"));
  EXPECT_EQ(softmax.state_tokens(), 16);
  // One memory for each bit that is set in the number of tokens: four after 15,
  // one after 16.
  const ResultRecord log_linear = RunOk(Request("log_linear"));
  const ResultRecord mamba2 = RunOk(Request("mamba2"));
  EXPECT_EQ(log_linear.state_tokens(), 15);
  EXPECT_GT(log_linear.state_bytes(), 3 * mamba2.state_bytes());
  EXPECT_LT(log_linear.state_bytes(), 4 * mamba2.state_bytes());
}

TEST(Cell, MistakesAreErrorsThatHelp) {
  const auto error = [](const CellRequest& request) {
    return std::string(RunCell(request, nullptr).status().message());
  };
  EXPECT_NE(error(Request("sotfmax")).find("softmax"), std::string::npos);
  CellRequest request = Request("softmax");
  request.task = "mqra";
  EXPECT_NE(error(request).find("mqar"), std::string::npos);
  EXPECT_NE(error(Request("softmax", {"pairs=1000"})).find("pairs"),
            std::string::npos);
  EXPECT_NE(error(Request("softmax", {"heads=3"})).find("model.heads"),
            std::string::npos);
}

}  // namespace
}  // namespace mneme
