// SPDX-License-Identifier: Apache-2.0

#include "tasks/weighted_draw.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

namespace mneme {
namespace {

// With 2^20 weights the total stays below 2^63.
constexpr double kLargestWeight = 0x1p42;
constexpr size_t kMaxWeights = size_t{1} << 20;

size_t LowBit(size_t i) { return i & -i; }

}  // namespace

WeightedDraw::WeightedDraw(absl::Span<const double> weights)
    : weights_(weights.size()), tree_(weights.size() + 1) {
  assert(weights.size() <= kMaxWeights);
  if (weights.empty()) return;
  const double largest = *std::max_element(weights.begin(), weights.end());
  for (size_t i = 0; i < weights.size(); ++i) {
    assert(weights[i] > 0 && std::isfinite(weights[i]));
    weights_[i] = std::max<int64_t>(
        1, std::llround(weights[i] / largest * kLargestWeight));
    total_ += weights_[i];
    tree_[i + 1] += weights_[i];
    const size_t parent = i + 1 + LowBit(i + 1);
    if (parent < tree_.size()) tree_[parent] += tree_[i + 1];
  }
}

void WeightedDraw::operator()(absl::Span<uint64_t> out, Random* random) const {
  assert(out.size() <= weights_.size());
  size_t top = 1;  // the largest power of two in the tree
  while (2 * top < tree_.size()) top *= 2;
  std::vector<uint64_t> tree = tree_;
  uint64_t total = total_;
  for (uint64_t& drawn : out) {
    // The item in whose share of the total a uniform number falls: the last one
    // before which the weights sum to no more than it.
    uint64_t rest = random->Below(total);
    size_t item = 0;
    for (size_t step = top; step > 0; step /= 2) {
      if (item + step < tree.size() && tree[item + step] <= rest) {
        item += step;
        rest -= tree[item];
      }
    }
    drawn = item;
    total -= weights_[item];
    for (size_t i = item + 1; i < tree.size(); i += LowBit(i)) {
      tree[i] -= weights_[item];
    }
  }
}

}  // namespace mneme
