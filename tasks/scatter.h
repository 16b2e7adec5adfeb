// SPDX-License-Identifier: Apache-2.0
//
// Where things of several tokens stand among filler.

#ifndef MNEME_TASKS_SCATTER_H_
#define MNEME_TASKS_SCATTER_H_

#include <cstdint>
#include <vector>

#include "attention/tensor/random.h"

namespace mneme {

// The starts, ascending, of `runs` runs of `width` tokens each that lie within
// 0 ... places - 1 and do not overlap; all arrangements are equally likely.
// Takes O(runs log runs) time whatever places is.
// Precondition: runs * width <= places.
std::vector<int64_t> ScatterRuns(int64_t runs, int64_t width, int64_t places,
                                 Random* random);

}  // namespace mneme

#endif  // MNEME_TASKS_SCATTER_H_
