// SPDX-License-Identifier: Apache-2.0

#include "harness/training_set.h"

#include <algorithm>
#include <numeric>

#include "attention/tensor/random.h"

namespace mneme {

TrainingSet::TrainingSet(const Options& options, uint64_t seed)
    : seed_(seed),
      batch_(options.Int("batch")),
      examples_(options.Int("train_examples")),
      steps_per_epoch_((examples_ + batch_ - 1) / batch_),
      shuffled_(options.Choice("order") == "shuffled"),
      order_(examples_ > 0 ? examples_ : batch_) {}

absl::Span<const uint64_t> TrainingSet::Batch(int64_t step) {
  if (examples_ == 0) {
    std::iota(order_.begin(), order_.end(), step * batch_);
    return order_;
  }
  if (const int64_t epoch = step / steps_per_epoch_; epoch != epoch_) {
    epoch_ = epoch;
    std::iota(order_.begin(), order_.end(), 0);
    if (shuffled_) {
      Random random(seed_, StreamId("training order"), epoch);
      Shuffle(absl::MakeSpan(order_), &random);
    }
  }
  const int64_t first = step % steps_per_epoch_ * batch_;
  return absl::MakeConstSpan(order_).subspan(first, batch_);
}

}  // namespace mneme
