// SPDX-License-Identifier: Apache-2.0
//
// Records for tests, complete enough for every part of a report.

#ifndef MNEME_REPORTS_TESTING_H_
#define MNEME_REPORTS_TESTING_H_

#include <cstdint>
#include <string>

#include "harness/probe.pb.h"
#include "harness/result.pb.h"
#include "harness/throughput.pb.h"

namespace mneme {

// A finished cell of task "mqar" and profile "quick" with that accuracy over
// 1000 test examples; steps to 90% are there when the accuracy is.
ResultRecord OkCell(const std::string& variant, double accuracy,
                    uint64_t seed = 0);

// One of which 64, 128, 256 and 512 tokens were tested, with answers said at
// all depths and every position scored: each doubling takes a quarter of the
// accuracy, and it falls towards the beginning of the sequence. Beyond
// `supported` tokens, if there is a bound, sequences are unsupported.
ResultRecord LengthsCell(const std::string& variant, double accuracy,
                         uint64_t seed = 0, int64_t supported = 512);

// One whose loss became NaN at step 120.
ResultRecord DivergedCell(const std::string& variant, uint64_t seed = 0);

// One of which nothing is known but that it failed, as the driver makes them.
ResultRecord FailedCell(const std::string& variant, const std::string& message,
                        uint64_t seed = 0);

// A probe at key dimensions 16 and 64, whose memory holds `pairs_per_dim` times
// as many pairs at 90% recall as it has dimensions, in a state of 4 KiB and 16
// KiB; it was tried up to eight times as many, and what holds more has no
// estimate.
ProbeRecord CapacityProbe(const std::string& variant, double pairs_per_dim);

// One whose error is 1 / size for 16, 64 and 256 of `knob`.
ProbeRecord ApproximationProbe(const std::string& variant,
                               const std::string& knob);

// One that says why there is nothing to probe.
ProbeRecord UnsupportedProbe(const std::string& variant,
                             const std::string& reason);

// One that failed, as the driver makes them.
ProbeRecord FailedProbe(const std::string& variant, const std::string& message);

// How fast a variant is with one thread: it prefills 1x1024x8x64 to 1x8192x8x64
// at so many tokens per second, half the limit, and grows with exponent 1; it
// decodes, goes backward and trains ten times as slowly in the suite's own
// shapes, with a backbone that is ten times as fast as training. Its state is
// of 16 KiB.
ThroughputRecord SpeedRecord(const std::string& variant,
                             double tokens_per_second);

// A measurement that was not timed, of prefill in the suite's own shape.
ThroughputMeasurement NotTimed(const std::string& contender,
                               const std::string& error);

}  // namespace mneme

#endif  // MNEME_REPORTS_TESTING_H_
