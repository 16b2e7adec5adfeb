// SPDX-License-Identifier: Apache-2.0
//
// Records for tests, complete enough for every part of a report.

#ifndef MNEME_REPORTS_TESTING_H_
#define MNEME_REPORTS_TESTING_H_

#include <cstdint>
#include <string>

#include "harness/result.pb.h"

namespace mneme {

// A finished cell of task "mqar" and profile "quick" with that accuracy over
// 1000 test examples; steps to 90% are there when the accuracy is.
ResultRecord OkCell(const std::string& variant, double accuracy,
                    uint64_t seed = 0);

// One whose loss became NaN at step 120.
ResultRecord DivergedCell(const std::string& variant, uint64_t seed = 0);

// One of which nothing is known but that it failed, as the driver makes them.
ResultRecord FailedCell(const std::string& variant, const std::string& message,
                        uint64_t seed = 0);

}  // namespace mneme

#endif  // MNEME_REPORTS_TESTING_H_
