// SPDX-License-Identifier: Apache-2.0
//
// Where needles stand: a haystack of so many places is cut into equal depths,
// and each depth has one place, in its middle, where a needle of that depth
// stands. Depth 0 is the start of the haystack.
//
//   place   0 1 2 3 4 5 6 7 8 9          10 places, depths = 4
//   depth   0 0 0 1 1 2 2 2 3 3
//   needle    x   x     x   x
//
// Accuracy by depth then has as many cells at every length, and each cell means
// the same place. (RULER's 40 depths are 0%, 3%, 5%, ... 100% of the haystack,
// ends included; middles keep clear of the borders between cells.)

#ifndef MNEME_TASKS_DEPTH_GRID_H_
#define MNEME_TASKS_DEPTH_GRID_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mneme {

class DepthGrid {
 public:
  // InvalidArgument, in the name of the task, if the grid is finer than the
  // haystack: more depths than places, which are what a sequence of `length`
  // tokens has room for. depths >= 1, places and depths below 2^31.
  static absl::StatusOr<DepthGrid> Create(absl::string_view task,
                                          int64_t depths, int64_t places,
                                          int64_t length);

  int64_t depths() const { return depths_; }
  int64_t places() const { return places_; }

  // The place of a depth in 0 ... depths() - 1; increases with it.
  int64_t PlaceOf(int64_t depth) const {
    return (First(depth) + First(depth + 1) - 1) / 2;
  }
  // The depth of any place in 0 ... places() - 1: floor(place depths / places).
  int64_t DepthOf(int64_t place) const { return place * depths_ / places_; }

 private:
  DepthGrid(int64_t depths, int64_t places)
      : depths_(depths), places_(places) {}

  // The first place of a depth.
  int64_t First(int64_t depth) const {
    return (depth * places_ + depths_ - 1) / depths_;
  }

  int64_t depths_;
  int64_t places_;
};

}  // namespace mneme

#endif  // MNEME_TASKS_DEPTH_GRID_H_
