// SPDX-License-Identifier: Apache-2.0

#include "harness/score_sheet.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/numeric/bits.h"

namespace mneme {

ScoreSheet::ScoreSheet(const Task* task, Average average)
    : task_(task),
      average_(average),
      classes_(average == Average::kClasses ? task->vocabulary() : 0),
      details_(task->DetailNames().size(), 0.0) {}

void ScoreSheet::Add(const Example& example,
                     absl::Span<const int64_t> positions,
                     absl::Span<const double> losses,
                     absl::Span<const int32_t> predictions) {
  const double score = task_->Score(example, predictions);
  sum_ += score;
  sum_of_squares_ += score * score;
  ++examples_;
  if (!details_.empty()) {
    const std::vector<double> details = task_->Details(example, predictions);
    for (size_t i = 0; i < details_.size(); ++i) details_[i] += details[i];
  }
  size_t scored = 0;
  for (size_t t = 0; t < example.targets.size(); ++t) {
    const int32_t target = example.targets[t];
    if (target == kUnscored) continue;
    if (average_ == Average::kClasses) {
      classes_.Add(target, predictions[scored]);
    }
    const int64_t position =
        positions.empty() ? static_cast<int64_t>(t) : positions[scored];
    const size_t width = absl::bit_width(static_cast<uint64_t>(position));
    if (positions_.size() <= width) positions_.resize(width + 1);
    ++positions_[width].answers;
    positions_[width].loss += losses[scored];
    if (!example.origins.empty() && example.origins[t] != kNowhere) {
      depths_.resize(kDepths);
      const int64_t depth = example.origins[t] * kDepths / task_->length();
      Tally& tally = depths_[std::min(depth, kDepths - 1)];
      ++tally.answers;
      tally.right += predictions[scored] == target;
    }
    ++scored;
  }
}

Score ScoreSheet::Total() const {
  Score score;
  const double n = static_cast<double>(examples_);
  score.examples = examples_;
  score.accuracy = sum_ / n;
  if (examples_ > 1) {
    const double variance = std::max(
        0.0, (sum_of_squares_ - n * score.accuracy * score.accuracy) / (n - 1));
    score.accuracy_stderr = std::sqrt(variance / n);
  }
  if (average_ == Average::kClasses) {
    score.accuracy = classes_.mean();
    score.accuracy_stderr = classes_.mean_stderr();
  }
  for (const double detail : details_) score.details.push_back(detail / n);
  score.depths = depths_;
  int64_t answers = 0;
  for (size_t width = 0; width < positions_.size(); ++width) {
    const LossSum& sum = positions_[width];
    if (sum.answers == 0) continue;
    answers += sum.answers;
    score.loss += sum.loss;
    LossOfPositions& part = score.positions.emplace_back();
    part.first = width == 0 ? 0 : int64_t{1} << (width - 1);
    part.last = std::min(int64_t{1} << width, task_->length());
    part.answers = sum.answers;
    part.loss = sum.loss / static_cast<double>(sum.answers);
  }
  score.loss /= static_cast<double>(answers);
  return score;
}

}  // namespace mneme
