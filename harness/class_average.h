// SPDX-License-Identifier: Apache-2.0
//
// Accuracy as the mean over classes instead of examples, the metric of MAD
// (arXiv 2403.17844): the fraction found of those positions whose answer is the
// class, averaged over all classes that were wanted or given. So a class that
// was given and never wanted counts as one with accuracy zero.

#ifndef MNEME_HARNESS_CLASS_AVERAGE_H_
#define MNEME_HARNESS_CLASS_AVERAGE_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace mneme {

class ClassAverage {
 public:
  explicit ClassAverage(int64_t classes) : counts_(classes) {}

  // Both in [0, classes).
  void Add(int32_t wanted, int32_t given) {
    ++counts_[wanted].wanted;
    ++counts_[given].given;
    if (wanted == given) ++counts_[wanted].found;
  }

  // 0 when nothing was added.
  double mean() const {
    double sum = 0, classes = 0;
    for (const Count& c : counts_) {
      if (c.wanted == 0 && c.given == 0) continue;
      ++classes;
      if (c.wanted > 0) sum += Part(c);
    }
    return classes == 0 ? 0 : sum / classes;
  }

  // Standard error of that, taking positions to be independent of each other.
  double mean_stderr() const {
    double variance = 0, classes = 0;
    for (const Count& c : counts_) {
      if (c.wanted == 0 && c.given == 0) continue;
      ++classes;
      if (c.wanted > 0) variance += Part(c) * (1 - Part(c)) / c.wanted;
    }
    return classes == 0 ? 0 : std::sqrt(variance) / classes;
  }

 private:
  struct Count {
    int64_t wanted = 0, given = 0, found = 0;
  };
  static double Part(const Count& c) {
    return static_cast<double>(c.found) / static_cast<double>(c.wanted);
  }

  std::vector<Count> counts_;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_CLASS_AVERAGE_H_
