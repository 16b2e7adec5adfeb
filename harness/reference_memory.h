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
//           does; one that needed fewer bytes for a pair could still do better.
//
// What a memory has lost is guessed among the context's answers. For scores
// that are no mean over answers that is an approximation.

#ifndef MNEME_HARNESS_REFERENCE_MEMORY_H_
#define MNEME_HARNESS_REFERENCE_MEMORY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "tasks/task.h"

namespace mneme {

struct ReferenceScore {
  int64_t bytes = 0;
  double window = 0;  // expected scores
  double table = 0;
};

class ReferenceSheet {
 public:
  // The task must outlive the sheet. bytes_per_token is what a window keeps of
  // one token.
  ReferenceSheet(const Task* task, int64_t bytes_per_token)
      : task_(task),
        bytes_per_token_(bytes_per_token),
        guess_(task->ContextGuessScore()) {}

  // One example; positions are those of its scored tokens in the sequence, or
  // empty if the example is whole. Keeps the first 256 and no more: their
  // spread is not shown.
  void Add(const Example& example, absl::Span<const int64_t> positions);

  // Whether no answer of what was added is said at any one place; then there is
  // nothing that a memory could find.
  bool empty() const { return largest_window_ == 0; }

  // The means over what was added.
  ReferenceScore At(int64_t bytes) const;

  // At 2^5, 2^6, ... bytes, up to where both find everything.
  std::vector<ReferenceScore> Curve() const;

 private:
  // One scored position.
  struct Question {
    int32_t target;
    // How many tokens a window must hold to contain the answer, the asking
    // token included, and how many pairs a table: those said from it on.
    int64_t window;
    int64_t pairs;
  };
  struct Entry {
    Example example;
    std::vector<Question> questions;
  };

  template <typename Found>
  double ExpectedScore(const Entry& entry, const Found& found) const;

  const Task* task_;
  int64_t bytes_per_token_;
  double guess_;  // some tasks take a while to say it
  std::vector<Entry> entries_;
  int64_t largest_window_ = 0;
  int64_t most_pairs_ = 0;
};

// Of test examples 0 ... examples - 1.
ReferenceSheet ReferencesOf(const Task& task, uint64_t seed, int64_t examples,
                            int64_t bytes_per_token);

}  // namespace mneme

#endif  // MNEME_HARNESS_REFERENCE_MEMORY_H_
