// SPDX-License-Identifier: Apache-2.0
//
// How sure an accuracy is, and which ranks it allows.
//
// One seed: an interval over test examples only. The reported standard error s
// of an accuracy p says how many independent yes-or-no answers the test was
// worth, n = p (1 - p) / s^2; the interval is Clopper and Pearson's (Biometrika
// 26, 1934) for p n successes in n trials, which stays honest at p = 1, where s
// is 0. It does not cover the luck of one training run.
//
// Several seeds: Student's t interval of the mean over seeds. Seeds may agree
// by accident, the likelier the fewer they are; so the standard error is never
// taken to be smaller than what the test examples alone leave open, and the
// degrees of freedom are those of the seeds all the same.
//
// Ranks: each pair of means is compared (Welch's t test on the standard errors
// above, two-sided), with Holm's correction (Scand. J. Statist. 6, 1979) for
// the number of pairs. A row's best possible rank is one more than the number
// of rows significantly better than it, its worst possible rank likewise; rows
// that the data cannot separate share ranks.
//
// Pure functions, thread-safe.

#ifndef MNEME_REPORTS_ESTIMATE_H_
#define MNEME_REPORTS_ESTIMATE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace mneme {

inline constexpr double kConfidence = 0.95;

// The outcome of one seed: mean score in [0, 1] over `examples` >= 1 test
// examples, and its standard error >= 0.
struct SeedScore {
  double accuracy = 0;
  double standard_error = 0;
  int64_t examples = 0;
};

struct Estimate {
  double mean = 0;
  double low = 0;  // 0 <= low <= mean <= high <= 1
  double high = 0;
  double smallest = 0;  // over seeds
  double largest = 0;
  // Of the mean; > 0 even where all seeds agree.
  double standard_error = 0;
  // Seeds less one; infinite for one seed, whose error is of test examples.
  double degrees_of_freedom = 0;
};

// scores is not empty.
Estimate EstimateAccuracy(absl::Span<const SeedScore> scores);

// The probability, were the true means equal, of a difference at least as
// large as the one seen.
double DifferencePValue(const Estimate& a, const Estimate& b);

// 1-based and inclusive.
struct RankRange {
  int first = 0;
  int last = 0;
};

// The ranks that each estimate may have, a higher mean being better, at family-
// wise error 1 - kConfidence.
std::vector<RankRange> RankRanges(absl::Span<const Estimate> estimates);

}  // namespace mneme

#endif  // MNEME_REPORTS_ESTIMATE_H_
