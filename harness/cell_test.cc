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

TEST(Cell, LongerSequencesAreTestedAndNotTrainedOn) {
  const std::vector<std::string> set = {"train.test_doublings=2",
                                        "train.length_tokens=640"};
  for (const std::string& name : Shipped()) {
    SCOPED_TRACE(name);
    const ResultRecord record = RunOk(Request(name, set));
    const Metrics& metrics = record.metrics();
    ASSERT_EQ(metrics.lengths_size(), 3);
    EXPECT_EQ(metrics.lengths(0).length(), 16);
    EXPECT_EQ(metrics.lengths(0).accuracy(), metrics.accuracy());
    EXPECT_EQ(metrics.lengths(2).length(), 64);
    EXPECT_EQ(metrics.accuracy(), RunOk(Request(name)).metrics().accuracy());
    for (const LengthScore& score : metrics.lengths()) {
      // What was trained for one length may say that it knows no other.
      if (!score.unsupported().empty()) continue;
      EXPECT_EQ(score.examples(), score.length() == 16   ? 16
                                  : score.length() == 32 ? 16
                                                         : 10);
      EXPECT_GT(score.depths_size(), 0);
      EXPECT_EQ(score.streamed(),
                score.length() > 16 &&
                    (*Variants().Find(name))->descriptor.streaming);
    }
  }
}

// The first token of a sequence is asked for at its end, up to 32 later.
class ShortTask : public Task {
 public:
  explicit ShortTask(int64_t length) : length_(length) {}
  int64_t vocabulary() const override { return 8; }
  int64_t length() const override { return length_; }
  void Generate(Split, uint64_t seed, uint64_t index,
                Example* example) const override {
    const auto first = static_cast<int32_t>((seed + index) % 8);
    *example = {std::vector<int32_t>(length_, first),
                std::vector<int32_t>(length_, kUnscored),
                std::vector<TokenRole>(length_, TokenRole::kContext)};
    example->targets.back() = first;
  }
  double ChanceScore() const override { return 1.0 / 8; }
  double ContextGuessScore() const override { return 1; }

 private:
  int64_t length_;
};

TaskPlugin ShortPlugin() {
  TaskDescriptor descriptor;
  descriptor.name = "testing_short";
  descriptor.options = {OptionSpec::Int("length", 16, 4, 32, "tokens"),
                        OptionSpec::Text("path", "", "unused")};
  descriptor.profiles = {{"quick", {}}, {"smoke", {}}};
  return {descriptor, [](const Options& options) {
            return std::make_unique<ShortTask>(options.Int("length"));
          }};
}

const bool kShortRegistered = RegisterTask(ShortPlugin());

TEST(Cell, LengthsThatATaskOrAVariantCannotHaveAreSaidToBe) {
  CellRequest request = Request("linear", {"test_doublings=3"});
  request.task = "testing_short";
  ResultRecord record = RunOk(request);
  ASSERT_EQ(record.metrics().lengths_size(), 4);
  EXPECT_EQ(record.metrics().lengths(1).unsupported(), "");
  EXPECT_NE(record.metrics().lengths(2).unsupported(), "");
  EXPECT_NE(record.metrics().lengths(3).unsupported(), "");
  record = RunOk(Request("softmax", {"positions=true", "test_doublings=1"}));
  ASSERT_EQ(record.metrics().lengths_size(), 2);
  EXPECT_NE(record.metrics().lengths(1).unsupported(), "");
}

TEST(Cell, WhatNoRecordCanHoldIsRefusedBeforeTraining) {
  CellRequest request = Request("linear", {"path=caf\xe9", "steps=100000000"});
  request.task = "testing_short";
  const absl::Status status = RunCell(request, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("UTF-8"), std::string::npos) << status;
}

TEST(Cell, MemoriesOfAsManyBytesAreShownBeside) {
  const Metrics metrics = RunOk(Request("softmax")).metrics();
  ASSERT_GT(metrics.references_size(), 1);
  EXPECT_LT(metrics.references(0).window(), 1);
  const ReferencePoint& last =
      metrics.references(metrics.references_size() - 1);
  EXPECT_EQ(last.window(), 1);
  EXPECT_EQ(last.table(), 1);
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
