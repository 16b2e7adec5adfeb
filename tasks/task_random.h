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

  // Four numbers of any place in an example, at a cost that does not depend on
  // the place: what stands there can be drawn without what stands before it.
  // They are none of those that ForExample's generator gives, which have 0 for
  // the counter's third word.
  std::array<uint64_t, 4> AtPlace(Split split, uint64_t seed, uint64_t index,
                                  uint64_t place) const {
    return Threefry4x64({index, place, 1, 0},
                        {seed, streams_[static_cast<size_t>(split)], 0, 0});
  }

 private:
  std::array<uint64_t, 3> streams_;  // by split
};

}  // namespace mneme

#endif  // MNEME_TASKS_TASK_RANDOM_H_
