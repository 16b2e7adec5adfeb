// SPDX-License-Identifier: Apache-2.0
//
// Adds up how a model answered the examples of a task: the mean score and its
// error, and the same answers told by where they were said and where they were
// asked for.

#ifndef MNEME_HARNESS_SCORE_SHEET_H_
#define MNEME_HARNESS_SCORE_SHEET_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "harness/class_average.h"
#include "tasks/task.h"

namespace mneme {

// Parts that a sequence is cut into to tell accuracy by depth, as needle tests
// do: depth d holds the answers said at positions [d, d + 1) * length / 40.
inline constexpr int64_t kDepths = 40;

// Answers to one kind of question.
struct Tally {
  int64_t answers = 0;
  int64_t right = 0;  // the token predicted is the token wanted
};

// Scored positions in [first, last).
struct LossOfPositions {
  int64_t first = 0, last = 0;
  int64_t answers = 0;
  double loss = 0;  // mean, nats
};

// What accuracy is the mean of: the task's scores of examples, or what was
// found of each class (class_average.h).
enum class Average { kExamples, kClasses };

struct Score {
  double accuracy = 0;
  double accuracy_stderr = 0;  // of that mean
  double loss = 0;             // nats per scored position
  int64_t examples = 0;
  std::vector<double> details;  // means, by Task::DetailNames
  // kDepths of them, or none where answers are said at no one place.
  std::vector<Tally> depths;
  // Where something was scored: [0, 1), [1, 2), [2, 4), [4, 8), ...
  std::vector<LossOfPositions> positions;
};

class ScoreSheet {
 public:
  // The task must outlive the sheet.
  explicit ScoreSheet(const Task* task, Average average = Average::kExamples);

  // One example and, for each of its scored positions in order, the loss and
  // the prediction. positions are those of the scored ones in the sequence;
  // empty if the example is whole, which then shows them.
  void Add(const Example& example, absl::Span<const int64_t> positions,
           absl::Span<const double> losses,
           absl::Span<const int32_t> predictions);

  // Of all that was added, in the order it was: the same to the bit every time.
  Score Total() const;

 private:
  struct LossSum {
    int64_t answers = 0;
    double loss = 0;
  };

  const Task* task_;
  Average average_;
  ClassAverage classes_;
  int64_t examples_ = 0;
  double sum_ = 0, sum_of_squares_ = 0;
  std::vector<double> details_;
  std::vector<Tally> depths_;
  std::vector<LossSum> positions_;  // by bit width of the position
};

}  // namespace mneme

#endif  // MNEME_HARNESS_SCORE_SHEET_H_
