// SPDX-License-Identifier: Apache-2.0
//
// Testing a trained model on sequences longer than those it was trained on.
//
// A mechanism with a decoding state reads a sequence in pieces and carries its
// state from one to the next, which is what a decoder does, and gives what
// reading it at once would give (the variant contract test). The memory it
// takes is that of the state and of one piece, whatever the length, if the
// task generates ranges.

#ifndef MNEME_HARNESS_LONG_SEQUENCES_H_
#define MNEME_HARNESS_LONG_SEQUENCES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attention/kernels/parallel.h"
#include "harness/model.h"
#include "harness/reference_memory.h"
#include "harness/score_sheet.h"
#include "tasks/task.h"

namespace mneme {

struct LengthTestOptions {
  int64_t examples = 1;
  // Tokens read at once; 1 decodes token by token, in the recurrent form.
  int64_t piece = 1024;
  Average average = Average::kExamples;
  // What one token takes in a cache of keys and values, for the references.
  int64_t bytes_per_token = 1;
  // A state that would become larger than this is not tried.
  int64_t largest_state_bytes = int64_t{64} << 20;
  // Nor is a longer sequence, by what must read it at once: memory grows with
  // every token.
  int64_t longest_at_once = int64_t{1} << 16;
};

struct LengthTest {
  Score score;
  bool streamed = false;    // read in pieces
  int64_t state_bytes = 0;  // at the end of a sequence; 0 unless streamed
  // Of as many bytes as that state, if answers are said somewhere.
  absl::optional<ReferenceScore> reference;
  // Of the process, while it ran; 0 where the kernel does not tell.
  int64_t peak_memory_bytes = 0;
  double seconds = 0;
};

// Scores test examples 0 ... examples - 1 of a task. Unimplemented, with the
// reason, when the model cannot read sequences of the task's length.
absl::StatusOr<LengthTest> TestAtLength(const Model& model, const Task& task,
                                        uint64_t seed,
                                        const LengthTestOptions& options,
                                        kernels::ThreadPool* pool);

}  // namespace mneme

#endif  // MNEME_HARNESS_LONG_SEQUENCES_H_
