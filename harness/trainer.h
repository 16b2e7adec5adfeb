// SPDX-License-Identifier: Apache-2.0
//
// Training and scoring a model on a task.
//
// A batch is cut into shards of whole sequences, small enough for a shard's
// activations to stay in the second-level cache. Shards are computed in any
// order by any number of threads, each into its own gradient buffer, and the
// buffers are added in shard order: the result is the same to the bit for every
// number of threads. Cutting depends on the options alone.

#ifndef MNEME_HARNESS_TRAINER_H_
#define MNEME_HARNESS_TRAINER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attention/kernels/parallel.h"
#include "attention/plugin/options.h"
#include "harness/model.h"
#include "harness/score_sheet.h"
#include "tasks/task.h"

namespace mneme {

// Training's own settings, as in `--set train.steps=500`.
const std::vector<OptionSpec>& TrainOptionSpecs();

// InvalidArgument when they contradict each other.
absl::Status CheckTrainOptions(const Options& options);

Average AverageOf(const Options& train);

// One point of the learning curve.
struct ProgressPoint {
  int64_t step = 0;       // optimiser steps taken
  double train_loss = 0;  // mean since the last point, nats
  double validation_loss = 0;
  double validation_accuracy = 0;
  double learning_rate = 0;
  double seconds = 0;  // of training so far, evaluations excluded
};

struct TrainResult {
  std::vector<ProgressPoint> curve;
  int64_t steps = 0;
  int64_t examples = 0;  // seen, each as often as it was
  // The loss or the gradient norm became NaN or infinite in the last step.
  bool diverged = false;
  double seconds = 0;  // optimiser steps and data, evaluations excluded
  double generation_seconds = 0;  // making examples, part of seconds
  // Of the weights that the model is left with: the best seen.
  double validation_accuracy = 0;
  double validation_loss = 0;
};

class Trainer {
 public:
  // All must outlive the trainer. threads >= 1.
  Trainer(Model* model, const Task* task, const Options& options, uint64_t seed,
          int threads);
  ~Trainer();

  // Trains until options' steps, their stop_accuracy or their patience, and
  // leaves the model with the weights of the best validation accuracy; where
  // they say select=test, test examples stand in for validation's. progress, if
  // set, is called after each validation. learning_rate replaces the options'.
  absl::StatusOr<TrainResult> Train(
      double learning_rate,
      const std::function<void(const ProgressPoint&)>& progress);
  absl::StatusOr<TrainResult> Train(
      const std::function<void(const ProgressPoint&)>& progress);

  // Scores examples 0 ... count - 1 of a split.
  absl::StatusOr<Score> Evaluate(Split split, int64_t count);

  kernels::ThreadPool* pool() { return &pool_; }

 private:
  struct Shard;
  struct Worker;

  // Cuts the examples of these numbers into shards and runs them, with
  // gradients and dropout when training.
  absl::Status RunShards(Split split, absl::Span<const uint64_t> indices,
                         bool train);

  Model* model_;
  const Task* task_;
  Options options_;
  uint64_t seed_;
  Form form_;
  int64_t shard_examples_;
  uint64_t sequences_trained_ = 0;  // by earlier steps
  kernels::ThreadPool pool_;
  double generation_seconds_ = 0;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_TRAINER_H_
