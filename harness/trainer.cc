// SPDX-License-Identifier: Apache-2.0

#include "harness/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/kernels/denormals.h"
#include "attention/kernels/vector_math.h"
#include "attention/tensor/ops.h"
#include "harness/optimizer.h"
#include "harness/training_set.h"

namespace mneme {
namespace {

constexpr double kMaxLearningRate = 10;

// Sums the time between Start and Stop.
class Stopwatch {
 public:
  void Start() { start_ = Clock::now(); }
  void Stop() {
    total_ += std::chrono::duration<double>(Clock::now() - start_).count();
  }
  double seconds() const { return total_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_;
  double total_ = 0;
};

AdamWConfig OptimizerConfig(const Options& options, int64_t steps_per_epoch) {
  AdamWConfig config;
  config.beta2 = options.Real("beta2");
  config.weight_decay = options.Real("weight_decay");
  config.clip_norm = options.Real("clip_norm");
  config.warmup_steps = options.Int("warmup");
  config.total_steps = options.Int("steps");
  config.min_learning_rate = options.Real("min_learning_rate");
  if (options.Choice("schedule") == "epoch_cosine") {
    config.steps_per_epoch = steps_per_epoch;
  }
  config.parameter_groups = options.Bool("parameter_groups");
  return config;
}

// A copy of all weights, to return to.
class Checkpoint {
 public:
  void Save(const ParameterSet& parameters) {
    values_.clear();
    for (const auto& p : parameters.all()) values_.push_back(p->value.Clone());
  }
  void Load(ParameterSet* parameters) const {
    for (size_t i = 0; i < values_.size(); ++i) {
      const Tensor& to = parameters->all()[i]->value;
      std::copy_n(static_cast<const char*>(values_[i].raw()), to.bytes(),
                  static_cast<char*>(to.raw()));
    }
  }

 private:
  std::vector<Tensor> values_;
};

}  // namespace

const std::vector<OptionSpec>& TrainOptionSpecs() {
  static const auto* specs = new std::vector<OptionSpec>{
      OptionSpec::Int("steps", 800, 1, 100000000,
                      "optimiser steps at most; the cosine ends there"),
      OptionSpec::Int("batch", 64, 1, 65536, "examples a step"),
      OptionSpec::Int("train_examples", 0, 0, 1 << 28,
                      "size of a fixed set that is seen again every epoch; 0: "
                      "all examples are new"),
      OptionSpec::Choice("order", "shuffled", {"shuffled", "fixed"},
                         "of a fixed set's examples: anew every epoch, or "
                         "always the same batches"),
      OptionSpec::Real("learning_rate", 3e-3, 1e-8, kMaxLearningRate,
                       "peak learning rate"),
      OptionSpec::Int("rates", 1, 1, 16,
                      "learning rates tried: the given one, it times "
                      "rate_factor, ...; validation chooses"),
      OptionSpec::Real("rate_factor", 3.1622776601683795, 1.001, 1000,
                       "from one learning rate to the next"),
      OptionSpec::Real("min_learning_rate", 0, 0, 10, "where the cosine ends"),
      OptionSpec::Choice("schedule", "cosine", {"cosine", "epoch_cosine"},
                         "decay at every step, or at every epoch of a fixed "
                         "set"),
      OptionSpec::Int("warmup", 50, 0, 1000000, "steps of linear warm-up"),
      OptionSpec::Real("weight_decay", 0.1, 0, 10,
                       "decoupled weight decay of matrices"),
      OptionSpec::Bool("parameter_groups", true,
                       "norms, biases and embeddings do not decay, and some "
                       "mechanisms' parameters learn at rates of their own; "
                       "false: all parameters alike"),
      OptionSpec::Real("beta2", 0.999, 0, 0.999999,
                       "AdamW's decay of squared gradients"),
      OptionSpec::Real("clip_norm", 1, 0, 1e9,
                       "largest gradient norm; 0: no clipping"),
      OptionSpec::Int("eval_every", 50, 1, 1000000,
                      "steps between validations"),
      OptionSpec::Int("validation_examples", 256, 1, 1000000,
                      "examples a validation"),
      OptionSpec::Int("test_examples", 1024, 1, 10000000,
                      "examples of the final test"),
      OptionSpec::Int("test_doublings", 0, 0, 20,
                      "also test, without training on them, sequences of "
                      "length * 2, 4, ... 2^this"),
      OptionSpec::Int("length_tokens", 1 << 17, 1, int64_t{1} << 40,
                      "tokens read at each longer length: as many examples as "
                      "fit, but no fewer than 8"),
      OptionSpec::Int("stream_piece", 1024, 1, 1 << 20,
                      "tokens that a longer test reads at once, with a state "
                      "carried on; 1: token by token"),
      OptionSpec::Real("stop_accuracy", 0.995, 0, 2,
                       "stop when validation accuracy reaches this; above 1: "
                       "never"),
      OptionSpec::Int("patience", 0, 0, 1000000,
                      "stop after this many validations without a better one; "
                      "0: never"),
      OptionSpec::Choice("select", "validation", {"validation", "test"},
                         "data that choose the weights and when to stop; test "
                         "flatters, and is for comparing with papers that do"),
      OptionSpec::Choice("average", "examples", {"examples", "classes"},
                         "accuracy: the mean score of examples, or the mean "
                         "over the tokens that are answers"),
      OptionSpec::Choice("form", "chunked",
                         {"parallel", "chunked", "recurrent"},
                         "how mixers compute while training"),
      OptionSpec::Int("shard_tokens", 512, 1, 1 << 24,
                      "tokens computed together; part of the result's last "
                      "bits, as it fixes the order of sums")};
  return *specs;
}

Average AverageOf(const Options& train) {
  return train.Choice("average") == "classes" ? Average::kClasses
                                              : Average::kExamples;
}

absl::Status CheckTrainOptions(const Options& options) {
  if (options.Choice("schedule") == "epoch_cosine" &&
      options.Int("train_examples") == 0) {
    return absl::InvalidArgumentError(
        "train.schedule = epoch_cosine needs epochs: train.train_examples > 0");
  }
  if (options.Real("min_learning_rate") > options.Real("learning_rate")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "train.min_learning_rate = ", options.Real("min_learning_rate"),
        " is above train.learning_rate = ", options.Real("learning_rate")));
  }
  const double highest =
      options.Real("learning_rate") *
      std::pow(options.Real("rate_factor"), options.Int("rates") - 1);
  if (highest > kMaxLearningRate) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the last of train.rates = ", options.Int("rates"), " learning rates, ",
        highest, ", is above ", kMaxLearningRate));
  }
  return absl::OkStatus();
}

// Some whole sequences of a batch.
struct Trainer::Shard {
  std::vector<Example> examples;
  std::vector<int32_t> tokens;
  std::vector<int64_t> scored_rows;
  std::vector<int32_t> labels;
  std::vector<size_t> scored_of_example;

  // Made by the first training step: evaluation may use many more shards.
  std::unique_ptr<GradientBuffer> gradients;
  // Results.
  std::vector<double> losses;        // per scored position
  std::vector<int32_t> predictions;  // per scored position
  absl::Status status;

  void Generate(const Task& task, Split split, uint64_t seed,
                absl::Span<const uint64_t> indices) {
    examples.resize(indices.size());
    tokens.clear();
    scored_rows.clear();
    labels.clear();
    scored_of_example.clear();
    for (size_t i = 0; i < indices.size(); ++i) {
      Example& example = examples[i];
      task.Generate(split, seed, indices[i], &example);
      const size_t before = labels.size();
      for (size_t t = 0; t < example.tokens.size(); ++t) {
        if (example.targets[t] == kUnscored) continue;
        scored_rows.push_back(tokens.size() + t);
        labels.push_back(example.targets[t]);
      }
      scored_of_example.push_back(labels.size() - before);
      tokens.insert(tokens.end(), example.tokens.begin(), example.tokens.end());
    }
  }
};

struct Trainer::Worker {
  Arena arena;
};

Trainer::Trainer(Model* model, const Task* task, const Options& options,
                 uint64_t seed, int threads)
    : model_(model),
      task_(task),
      options_(options),
      seed_(seed),
      form_(*ParseForm(options.Choice("form"))),
      shard_examples_(
          std::max<int64_t>(1, options.Int("shard_tokens") / task->length())),
      pool_(threads) {
  for (int i = 0; i < threads; ++i) {
    workers_.push_back(std::make_unique<Worker>());
  }
}

Trainer::~Trainer() = default;

absl::Status Trainer::RunShards(Split split, absl::Span<const uint64_t> indices,
                                bool train) {
  const int64_t count =
      (indices.size() + shard_examples_ - 1) / shard_examples_;
  while (static_cast<int64_t>(shards_.size()) < count) {
    shards_.push_back(std::make_unique<Shard>());
  }
  Stopwatch generation;
  generation.Start();
  kernels::ParallelFor(&pool_, count, [&](size_t s, int) {
    shards_[s]->Generate(*task_, split, seed_,
                         indices.subspan(s * shard_examples_, shard_examples_));
  });
  generation.Stop();
  if (train) generation_seconds_ += generation.seconds();
  size_t scored = 0;
  for (int64_t s = 0; s < count; ++s) scored += shards_[s]->labels.size();
  if (scored == 0) {
    return absl::InvalidArgumentError("the task scores no position");
  }
  // The batch's loss is the mean over all its scored positions.
  const double weight = 1.0 / static_cast<double>(scored);
  kernels::ParallelFor(&pool_, count, [&](size_t s, int worker) {
    const kernels::ScopedFlushDenormals flush;
    Shard& shard = *shards_[s];
    if (train && shard.gradients == nullptr) {
      shard.gradients = std::make_unique<GradientBuffer>(model_->parameters());
    } else if (train) {
      shard.gradients->FillZero();
    }
    Tape tape(&workers_[worker]->arena, model_->parameters().dtype(),
              train ? shard.gradients.get() : nullptr);
    const Model::Noise noise = {seed_,
                                sequences_trained_ + s * shard_examples_};
    Variable hidden = model_->Hidden(
        &tape, shard.tokens, shard.examples.size(), task_->length(), form_,
        /*state=*/nullptr, train ? &noise : nullptr);
    Variable loss =
        CrossEntropy(model_->Logits(hidden, shard.scored_rows), shard.labels,
                     weight, &shard.losses, &shard.predictions);
    shard.status = train ? tape.Backward(loss) : tape.status();
    tape.Reset();
  });
  for (int64_t s = 0; s < count; ++s) {
    if (!shards_[s]->status.ok()) return shards_[s]->status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Score> Trainer::Evaluate(Split split, int64_t count) {
  // Bounds memory: examples are generated, scored and forgotten.
  constexpr int64_t kMostAtOnce = 1024, kTokensAtOnce = 1 << 22;
  const int64_t at_once = std::max<int64_t>(
      1, std::min(kMostAtOnce, kTokensAtOnce / task_->length()));
  ScoreSheet sheet(task_, AverageOf(options_));
  for (int64_t first = 0; first < count; first += at_once) {
    const int64_t now = std::min(at_once, count - first);
    std::vector<uint64_t> indices(now);
    std::iota(indices.begin(), indices.end(), first);
    absl::Status status = RunShards(split, indices, /*train=*/false);
    if (!status.ok()) return status;
    for (int64_t s = 0; s * shard_examples_ < now; ++s) {
      const Shard& shard = *shards_[s];
      size_t start = 0;
      for (size_t e = 0; e < shard.examples.size(); ++e) {
        const size_t scored = shard.scored_of_example[e];
        sheet.Add(
            shard.examples[e], /*positions=*/{},
            absl::MakeConstSpan(shard.losses).subspan(start, scored),
            absl::MakeConstSpan(shard.predictions).subspan(start, scored));
        start += scored;
      }
    }
  }
  return sheet.Total();
}

absl::StatusOr<TrainResult> Trainer::Train(
    const std::function<void(const ProgressPoint&)>& progress) {
  return Train(options_.Real("learning_rate"), progress);
}

absl::StatusOr<TrainResult> Trainer::Train(
    double learning_rate,
    const std::function<void(const ProgressPoint&)>& progress) {
  if (absl::Status s = CheckTrainOptions(options_); !s.ok()) return s;
  const int64_t steps = options_.Int("steps");
  const Split selection =
      options_.Choice("select") == "test" ? Split::kTest : Split::kValidation;
  TrainingSet set(options_, seed_);
  AdamWConfig config = OptimizerConfig(options_, set.steps_per_epoch());
  config.learning_rate = learning_rate;
  AdamW optimizer(&model_->parameters(), config);
  GradientBuffer total(model_->parameters());
  Checkpoint best;
  best.Save(model_->parameters());
  double best_accuracy = -1;
  int64_t evaluations_since_best = 0;
  double loss_sum = 0;
  int64_t loss_steps = 0;
  TrainResult result;
  generation_seconds_ = 0;
  Stopwatch watch;
  for (int64_t step = 0; step < steps; ++step) {
    watch.Start();
    // Second moments of near-zero gradients are denormal, too.
    const kernels::ScopedFlushDenormals flush;
    const absl::Span<const uint64_t> indices = set.Batch(step);
    const int64_t batch = indices.size();
    absl::Status status = RunShards(Split::kTrain, indices, /*train=*/true);
    if (!status.ok()) return status;
    sequences_trained_ += batch;
    result.examples += batch;
    double loss = 0;
    int64_t positions = 0;
    total.FillZero();
    for (int64_t s = 0; s * shard_examples_ < batch; ++s) {
      for (double row_loss : shards_[s]->losses) loss += row_loss;
      positions += shards_[s]->losses.size();
      DispatchDType(model_->parameters().dtype(), [&](auto zero) {
        using T = decltype(zero);
        T* sum = total.flat().data<T>();
        kernels::Add(sum, shards_[s]->gradients->flat().data<T>(), sum,
                     total.flat().elements());
      });
    }
    loss /= static_cast<double>(positions);
    const double norm =
        std::isfinite(loss) ? optimizer.Step(&total) : std::nan("");
    watch.Stop();
    result.steps = step + 1;
    if (!std::isfinite(norm)) {
      result.diverged = true;
      break;
    }
    loss_sum += loss;
    ++loss_steps;
    const bool last = step + 1 == steps;
    if ((step + 1) % options_.Int("eval_every") != 0 && !last) continue;

    absl::StatusOr<Score> score =
        Evaluate(selection, options_.Int("validation_examples"));
    if (!score.ok()) return score.status();
    ProgressPoint point;
    point.step = step + 1;
    point.train_loss = loss_sum / static_cast<double>(loss_steps);
    point.validation_loss = score->loss;
    point.validation_accuracy = score->accuracy;
    point.learning_rate = LearningRate(config, step);
    point.seconds = watch.seconds();
    loss_sum = 0;
    loss_steps = 0;
    result.curve.push_back(point);
    if (progress) progress(point);
    if (!std::isfinite(score->loss)) {
      result.diverged = true;
      break;
    }
    // Of equals the later: it has seen more.
    if (score->accuracy >= best_accuracy) {
      evaluations_since_best =
          score->accuracy > best_accuracy ? 0 : evaluations_since_best + 1;
      best_accuracy = score->accuracy;
      result.validation_loss = score->loss;
      best.Save(model_->parameters());
    } else {
      ++evaluations_since_best;
    }
    const int64_t patience = options_.Int("patience");
    if (score->accuracy >= options_.Real("stop_accuracy") ||
        (patience > 0 && evaluations_since_best >= patience)) {
      break;
    }
  }
  best.Load(&model_->parameters());
  result.seconds = watch.seconds();
  result.generation_seconds = generation_seconds_;
  result.validation_accuracy = std::max(best_accuracy, 0.0);
  return result;
}

}  // namespace mneme
