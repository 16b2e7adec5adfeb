// SPDX-License-Identifier: Apache-2.0
//
// Which examples a training step sees: endless new ones, or a fixed set of
// them, epoch by epoch.

#ifndef MNEME_HARNESS_TRAINING_SET_H_
#define MNEME_HARNESS_TRAINING_SET_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "attention/plugin/options.h"

namespace mneme {

class TrainingSet {
 public:
  // Takes batch, train_examples and order from training's options.
  TrainingSet(const Options& options, uint64_t seed);

  // 0 when nothing is seen twice. An epoch's last batch may be smaller.
  int64_t steps_per_epoch() const { return steps_per_epoch_; }

  // The numbers of the examples of step 0, 1, ..., valid until the next call.
  absl::Span<const uint64_t> Batch(int64_t step);

 private:
  uint64_t seed_;
  int64_t batch_, examples_, steps_per_epoch_;
  bool shuffled_;
  int64_t epoch_ = -1;           // whose order this is:
  std::vector<uint64_t> order_;  // of all examples, or of a batch
};

}  // namespace mneme

#endif  // MNEME_HARNESS_TRAINING_SET_H_
