// SPDX-License-Identifier: Apache-2.0

#include "harness/probes/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "attention/tensor/random.h"

namespace mneme {
namespace {

// The share of samples that is left out at either end, so that 95% intervals of
// means of few normal trials hold the truth as often: beyond (n / (n - 1))^1/2
// times Student's quantile in units of the deviation that samples have.
double Outside(int64_t trials) {
  constexpr double z = 1.959964;  // the normal one
  const auto free = static_cast<double>(trials - 1);
  if (free < 1) return 0;
  const auto power = [](double p) { return std::pow(z, p); };
  // Cornish and Fisher's expansion.
  const double t = z + (power(3) + z) / (4 * free) +
                   (5 * power(5) + 16 * power(3) + 3 * z) / (96 * free * free) +
                   (3 * power(7) + 19 * power(5) + 17 * power(3) - 15 * z) /
                       (384 * free * free * free);
  const double x = t * std::sqrt((free + 1) / free);
  return std::erfc(x / std::sqrt(2.0)) / 2;
}

}  // namespace

Bootstrap::Bootstrap(int64_t trials, uint64_t seed)
    : all_(trials), samples_(kSamples, std::vector<int64_t>(trials)) {
  std::iota(all_.begin(), all_.end(), 0);
  for (int64_t s = 0; s < kSamples; ++s) {
    Random random(seed, StreamId("bootstrap"), s);
    for (int64_t& trial : samples_[s]) trial = random.Below(trials);
  }
}

Measurement Bootstrap::Interval(const Statistic& statistic) const {
  std::vector<double> values;
  for (const std::vector<int64_t>& sample : samples_) {
    values.push_back(statistic(sample));
  }
  std::sort(values.begin(), values.end());
  const auto cut = static_cast<int64_t>(
      Outside(static_cast<int64_t>(all_.size())) * kSamples);
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
