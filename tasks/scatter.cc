// SPDX-License-Identifier: Apache-2.0

#include "tasks/scatter.h"

#include <algorithm>
#include <cassert>

#include "absl/types/span.h"

namespace mneme {

std::vector<int64_t> ScatterRuns(int64_t runs, int64_t width, int64_t places,
                                 Random* random) {
  assert(runs * width <= places);
  // With each run drawn together to one cell, an arrangement is a choice of
  // cells.
  std::vector<uint64_t> cells(runs);
  DrawDistinct(places - runs * (width - 1), absl::MakeSpan(cells), random);
  std::sort(cells.begin(), cells.end());
  std::vector<int64_t> starts(runs);
  for (int64_t i = 0; i < runs; ++i) {
    starts[i] = static_cast<int64_t>(cells[i]) + i * (width - 1);
  }
  return starts;
}

}  // namespace mneme
