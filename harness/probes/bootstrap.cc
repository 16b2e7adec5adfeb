// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "attention/tensor/random.h"

namespace mneme {

Bootstrap::Bootstrap(int64_t trials, uint64_t seed)
    : all_(trials), samples_(kSamples, std::vector<int64_t>(trials)) {
  std::iota(all_.begin(), all_.end(), 0);
  for (int64_t s = 0; s < kSamples; ++s) {
    Random random(seed, StreamId("bootstrap"), s);
    for (int64_t& trial : samples_[s]) trial = random.Below(trials);
  }
}

Measurement Bootstrap::Interval(const Statistic& statistic) const {
  constexpr double kOutside = 0.025;  // on either side
  std::vector<double> values;
  for (const std::vector<int64_t>& sample : samples_) {
    values.push_back(statistic(sample));
  }
  std::sort(values.begin(), values.end());
  const auto cut = static_cast<int64_t>(kOutside * kSamples);
  Measurement result;
  result.set_mean(statistic(all_));
  result.set_low(std::min(result.mean(), values[cut]));
  result.set_high(std::max(result.mean(), values[kSamples - 1 - cut]));
  return result;
}

Measurement Bootstrap::Mean(absl::Span<const double> of_trial) const {
  return Interval([&](absl::Span<const int64_t> trials) {
    double sum = 0;
    for (int64_t trial : trials) sum += of_trial[trial];
    return sum / static_cast<double>(trials.size());
  });
}

}  // namespace mneme
