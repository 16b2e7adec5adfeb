// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/statistics.h"

#include <algorithm>
#include <boost/math/statistics/univariate_statistics.hpp>
#include <cmath>

namespace mneme {

namespace stats = boost::math::statistics;

Statistics Describe(std::vector<double> values) {
  Statistics s;
  s.count = values.size();
  if (values.empty()) return s;
  s.mean = stats::mean(values);
  if (values.size() > 1 && s.mean != 0) {
    s.cv = std::sqrt(stats::sample_variance(values)) / std::abs(s.mean);
  }
  const auto [min, max] = std::minmax_element(values.begin(), values.end());
  s.min = *min;
  s.max = *max;
  s.median = stats::median(values);  // reorders them
  // Boost 1.74's median_absolute_deviation returns the value that is this far
  // from the median instead of the distance.
  for (double& value : values) value = std::abs(value - s.median);
  s.mad = stats::median(values);
  return s;
}

}  // namespace mneme
