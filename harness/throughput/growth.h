// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_HARNESS_THROUGHPUT_GROWTH_H_
#define MNEME_HARNESS_THROUGHPUT_GROWTH_H_

#include "harness/throughput.pb.h"

namespace mneme {

// Sets the growth exponent of every measurement that has at least three others
// of other lengths and alike in all else: the least-squares slope of the
// logarithm of the median time in that of the length. Quadratic mechanisms come
// near 2, linear ones near 1.
void FitGrowth(ThroughputRecord* record);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_GROWTH_H_
