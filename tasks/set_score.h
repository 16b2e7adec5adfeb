// SPDX-License-Identifier: Apache-2.0
//
// How well a list of tokens names a set: tasks whose answer has no order are
// scored by it. Order does not matter and a token that is said twice counts
// once, so nobody gains by repeating a safe guess.
//
//   precision  fraction of the predicted tokens that are wanted
//   recall     fraction of the wanted tokens that are predicted
//   F1         2 precision recall / (precision + recall)
//              = 2 |predicted and wanted| / (|predicted| + |wanted|)

#ifndef MNEME_TASKS_SET_SCORE_H_
#define MNEME_TASKS_SET_SCORE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "tasks/task.h"

namespace mneme {

struct SetScore {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
  bool exact = false;  // the same set
};

// Nothing predicted where nothing is wanted is exact, and all scores are 1.
// Otherwise precision without a prediction, and recall where nothing is wanted,
// are 0.
SetScore ScoreSet(absl::Span<const int32_t> predicted,
                  absl::Span<const int32_t> wanted);

// The tokens wanted at an example's scored positions, in order.
std::vector<int32_t> WantedTokens(const Example& example);

// A task whose answers, all of an example's, are one set. Its score is the
// recall, and its details "precision", "f1" and "exact".
class SetTask : public Task {
 public:
  double Score(const Example& example,
               absl::Span<const int32_t> predictions) const override;
  std::vector<std::string> DetailNames() const override;
  std::vector<double> Details(
      const Example& example,
      absl::Span<const int32_t> predictions) const override;
};

}  // namespace mneme

#endif  // MNEME_TASKS_SET_SCORE_H_
