// SPDX-License-Identifier: Apache-2.0
//
// The random numbers of a task's examples: one stream for each (task, split).

#ifndef MNEME_TASKS_TASK_RANDOM_H_
#define MNEME_TASKS_TASK_RANDOM_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "attention/tensor/random.h"
#include "tasks/task.h"

namespace mneme {

// Hashes the streams' names once, so that a Task can hold one of these and ask
// it for each example's generator. Immutable and thread-safe.
class TaskRandom {
 public:
  // The streams are named "<task>/train", "<task>/validation", "<task>/test".
  // Tasks of different names, and splits of one task, share no number.
  explicit TaskRandom(absl::string_view task);

  // The generator of one example, at its start.
  Random ForExample(Split split, uint64_t seed, uint64_t index) const {
    return Random(seed, streams_[static_cast<size_t>(split)], index);
  }

 private:
  std::array<uint64_t, 3> streams_;  // by split
};

}  // namespace mneme

#endif  // MNEME_TASKS_TASK_RANDOM_H_
