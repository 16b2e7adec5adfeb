// SPDX-License-Identifier: Apache-2.0
//
// Repetitions of one measurement in a few numbers.

#ifndef MNEME_HARNESS_THROUGHPUT_STATISTICS_H_
#define MNEME_HARNESS_THROUGHPUT_STATISTICS_H_

#include <cstddef>
#include <vector>

namespace mneme {

struct Statistics {
  size_t count = 0;
  double median = 0;
  double min = 0;
  double max = 0;
  double mean = 0;
  // Sample standard deviation over mean; 0 for fewer than two values.
  double cv = 0;
  // Median distance from the median, which a few disturbed ones do not move.
  double mad = 0;
};

// Of finite values; all 0 for none.
Statistics Describe(std::vector<double> values);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_STATISTICS_H_
