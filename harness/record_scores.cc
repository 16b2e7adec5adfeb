// SPDX-License-Identifier: Apache-2.0

#include "harness/record_scores.h"

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace mneme {
namespace {

constexpr double kMilestone = 0.9;  // of steps_to_90

}  // namespace

void StoreTraining(const TrainResult& result, const Task& task,
                   ResultRecord* record) {
  Metrics* metrics = record->mutable_metrics();
  Timing* timing = record->mutable_timing();
  metrics->set_steps(result.steps);
  metrics->set_validation_accuracy(result.validation_accuracy);
  for (const ProgressPoint& p : result.curve) {
    CurvePoint* point = metrics->add_curve();
    point->set_step(p.step);
    point->set_train_loss(p.train_loss);
    point->set_validation_loss(p.validation_loss);
    point->set_validation_accuracy(p.validation_accuracy);
    point->set_learning_rate(p.learning_rate);
    if (p.validation_accuracy >= kMilestone && !metrics->has_steps_to_90()) {
      metrics->set_steps_to_90(p.step);
      timing->set_seconds_to_90(p.seconds);
    }
  }
  metrics->set_chance_accuracy(task.ChanceScore());
  metrics->set_context_guess_accuracy(task.ContextGuessScore());
}

void StoreAttempts(const RateSearch& search, const Task& task,
                   ResultRecord* record) {
  Metrics* metrics = record->mutable_metrics();
  metrics->set_learning_rate(search.attempts[search.best].learning_rate);
  double seconds = 0, generation_seconds = 0, examples = 0;
  for (const Attempt& attempt : search.attempts) {
    RateAttempt* stored = metrics->add_attempts();
    stored->set_learning_rate(attempt.learning_rate);
    stored->set_validation_accuracy(attempt.result.validation_accuracy);
    stored->set_validation_loss(attempt.result.validation_loss);
    stored->set_steps(attempt.result.steps);
    stored->set_diverged(attempt.result.diverged);
    seconds += attempt.result.seconds;
    generation_seconds += attempt.result.generation_seconds;
    examples += static_cast<double>(attempt.result.examples);
  }
  Timing* timing = record->mutable_timing();
  timing->set_train_seconds(seconds);
  timing->set_generation_seconds(generation_seconds);
  timing->set_train_tokens_per_second(examples * task.length() / seconds);
}

void StoreScore(const Score& score, const Task& task, LengthScore* to) {
  to->set_length(task.length());
  to->set_examples(score.examples);
  to->set_accuracy(score.accuracy);
  to->set_accuracy_stderr(score.accuracy_stderr);
  const std::vector<std::string> names = task.DetailNames();
  for (size_t i = 0; i < names.size(); ++i) {
    NamedScore* detail = to->add_details();
    detail->set_name(names[i]);
    detail->set_value(score.details[i]);
  }
  for (size_t depth = 0; depth < score.depths.size(); ++depth) {
    const Tally& tally = score.depths[depth];
    if (tally.answers == 0) continue;
    DepthScore* part = to->add_depths();
    part->set_depth(static_cast<int32_t>(depth));
    part->set_answers(tally.answers);
    part->set_accuracy(static_cast<double>(tally.right) /
                       static_cast<double>(tally.answers));
  }
  if (!std::isfinite(score.loss)) return;
  to->set_loss(score.loss);
  for (const LossOfPositions& part : score.positions) {
    auto* stored = to->add_loss_by_position();
    stored->set_first(part.first);
    stored->set_last(part.last);
    stored->set_answers(part.answers);
    stored->set_loss(part.loss);
  }
}

void StoreReference(const ReferenceScore& score, ReferencePoint* to) {
  to->set_bytes(score.bytes);
  to->set_window(score.window);
  to->set_table(score.table);
}

}  // namespace mneme
