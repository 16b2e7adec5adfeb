// SPDX-License-Identifier: Apache-2.0
//
// Sequences of any length, written in ranges: filler that each position can be
// drawn of alone, and over it the few tokens that matter. What a task writes
// outside the range is dropped, so that the same lines generate a whole example
// and any part of it, and a part costs itself and the needles.
//
//   RangeWriter out(first, count, example);
//   filler_.Write(random_, split, seed, index, &out);
//   out.Write(position, key, TokenRole::kContext);
//   out.Ask(length_ - 1, query, answer, position);

#ifndef MNEME_TASKS_HAYSTACK_H_
#define MNEME_TASKS_HAYSTACK_H_

#include <cstdint>

#include "absl/numeric/int128.h"
#include "tasks/task.h"
#include "tasks/task_random.h"

namespace mneme {

// Writes to positions first ... first + count - 1 of a sequence.
class RangeWriter {
 public:
  // Makes *example count tokens 0 of filler, none of them scored. The example
  // must outlive the writer.
  RangeWriter(int64_t first, int64_t count, Example* example);

  int64_t first() const { return first_; }
  int64_t last() const { return first_ + count_; }  // not itself in the range

  bool Contains(int64_t position) const {
    return position >= first() && position < last();
  }

  void Write(int64_t position, int32_t token, TokenRole role) {
    if (!Contains(position)) return;
    example_->tokens[position - first_] = token;
    example_->roles[position - first_] = role;
  }

  // A query, where `target` is wanted, which the sequence says at `origin`.
  void Ask(int64_t position, int32_t token, int32_t target, int64_t origin) {
    if (!Contains(position)) return;
    Write(position, token, TokenRole::kQuery);
    example_->targets[position - first_] = target;
    example_->origins[position - first_] = static_cast<int32_t>(origin);
  }

 private:
  const int64_t first_;
  const int64_t count_;
  Example* const example_;
};

// What a haystack is made of: tokens of an alphabet of its own, either as a
// sentence that is said again and again, each token once, or each drawn
// uniformly.
class Filler {
 public:
  // Tokens first_token ... first_token + size - 1; size is 1 at least.
  Filler(int32_t first_token, int64_t size, bool random)
      : first_token_(first_token), size_(size), random_(random) {}

  // Fills the whole range. Of a random filler, position t takes part of the
  // numbers of place t / 8 of the example.
  void Write(const TaskRandom& random, Split split, uint64_t seed,
             uint64_t index, RangeWriter* out) const;

 private:
  int32_t first_token_;
  int64_t size_;
  bool random_;
};

// A 64-bit random number as one of 0 ... n - 1, each with probability 1 / n up
// to a part of n / 2^64.
inline uint64_t Scaled(uint64_t random, uint64_t n) {
  return absl::Uint128High64(absl::uint128(random) * n);
}

}  // namespace mneme

#endif  // MNEME_TASKS_HAYSTACK_H_
