// SPDX-License-Identifier: Apache-2.0
//
// Weighted drawing without replacement: one item after the other, each with
// probability proportional to its weight among those that are left. This is the
// distribution of numpy.random.choice(n, size=k, replace=False, p=p), order
// included. (numpy draws with replacement and keeps the new items; dropping
// repetitions from independent draws is the same as renormalising over what is
// left.)
//
//   const WeightedDraw draw({0.5, 0.25, 0.25});
//   uint64_t order[2];
//   draw(absl::MakeSpan(order), &random);

#ifndef MNEME_TASKS_WEIGHTED_DRAW_H_
#define MNEME_TASKS_WEIGHTED_DRAW_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "attention/tensor/random.h"

namespace mneme {

// Immutable and thread-safe. n weights take 16 n bytes; drawing k of them takes
// O(n) time for a copy and O(k log n) for the rest.
//
// Weights are held as 43-bit integers relative to the largest, and an item is
// found by integer arithmetic alone. The alternative with the same
// distribution, sorting the items by Exponential(1) / weight, needs n
// logarithms, whose last bits, and with them now and then the order, depend on
// the machine's C library.
class WeightedDraw {
 public:
  // Preconditions: at most 2^20 weights, all positive and finite. A weight of
  // less than 2^-42 of the largest counts as that, so no item is impossible.
  explicit WeightedDraw(absl::Span<const double> weights);

  // Fills out with different indices of weights, in the order drawn.
  // Precondition: out.size() is at most the number of weights.
  void operator()(absl::Span<uint64_t> out, Random* random) const;

 private:
  std::vector<uint64_t> weights_;
  uint64_t total_ = 0;
  // Fenwick tree: tree_[i] is the sum of the lowbit(i) weights up to number i,
  // counted from 1.
  std::vector<uint64_t> tree_;
};

}  // namespace mneme

#endif  // MNEME_TASKS_WEIGHTED_DRAW_H_
