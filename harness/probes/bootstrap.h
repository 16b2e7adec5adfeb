// SPDX-License-Identifier: Apache-2.0
//
// How sure a mean over trials is: 95% percentile intervals of the bootstrap
// (Efron, Annals of Statistics 7, 1979). Trials are drawn anew with replacement
// many times over, the statistic is computed of every such sample, and the
// middle of what comes out is the interval. The middle 95% of many trials; of
// few, whose samples vary less than new trials would, as much more as makes the
// interval of a mean that of Student (the expanded percentile interval of
// Hesterberg, American Statistician 69, 2015). It assumes that trials are alike
// and independent; of trials that all agree, or of one, it has no width.

#ifndef MNEME_HARNESS_PROBES_BOOTSTRAP_H_
#define MNEME_HARNESS_PROBES_BOOTSTRAP_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"
#include "harness/probe.pb.h"

namespace mneme {

// Immutable; statistics of one Bootstrap are computed of the same samples.
class Bootstrap {
 public:
  // trials >= 1.
  Bootstrap(int64_t trials, uint64_t seed);

  // A statistic of some trials, given by their numbers, some maybe twice.
  using Statistic = std::function<double(absl::Span<const int64_t> trials)>;

  // The statistic of all trials, with its interval, which contains it.
  Measurement Interval(const Statistic& statistic) const;
  // Of the mean of one number for each trial.
  Measurement Mean(absl::Span<const double> of_trial) const;

 private:
  static constexpr int64_t kSamples = 4000;

  std::vector<int64_t> all_;
  std::vector<std::vector<int64_t>> samples_;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_BOOTSTRAP_H_
