// SPDX-License-Identifier: Apache-2.0
//
// What two memories that need no training would score on a task, were they as
// large as a mechanism's state: the measure for what a state is used for.
//
//   window  keys and values of the most recent tokens, as softmax attention
//           keeps them in each layer of the model: an answer is right if it was
//           said within the window.
//   table   the most recent of the pairs that will be asked for, 8 bytes each:
//           two token ids. It knows beforehand what to keep, which no mechanism
//           does: with as many bytes nobody does better.
//
// What a memory has lost is guessed among the context's answers.

#ifndef MNEME_HARNESS_REFERENCE_MEMORY_H_
#define MNEME_HARNESS_REFERENCE_MEMORY_H_

#include <cstdint>
#include <vector>

#include "tasks/task.h"

namespace mneme {

struct ReferenceScore {
  int64_t bytes = 0;
  double window = 0;  // expected score
  double table = 0;
};

// For 2^5, 2^6, ... bytes, up to where both find everything, on test examples
// 0 ... examples - 1. bytes_per_token is what a window keeps of one. Empty for
// a task whose answers are said at no one place.
std::vector<ReferenceScore> ReferenceMemories(const Task& task, uint64_t seed,
                                              int64_t examples,
                                              int64_t bytes_per_token);

}  // namespace mneme

#endif  // MNEME_HARNESS_REFERENCE_MEMORY_H_
