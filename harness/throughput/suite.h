// SPDX-License-Identifier: Apache-2.0
//
// The throughput suite: everything that is measured of one variant.

#ifndef MNEME_HARNESS_THROUGHPUT_SUITE_H_
#define MNEME_HARNESS_THROUGHPUT_SUITE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/plugin/options.h"
#include "attention/variant.h"
#include "harness/throughput.pb.h"
#include "harness/throughput/interleaved_timer.h"
#include "harness/throughput/plan.h"

namespace mneme {

struct SuiteRequest {
  Selection selection;
  OptionValues set;  // of the variant
  Form form = Form::kChunked;
  // What would take longer at a quarter of the limit's speed is left out, and
  // so is what turns out to take longer.
  double max_seconds = 60;
  TimerOptions timer;  // but for `disturbed`, which is the suite's own
  std::string workspace_status;  // see DescribeEnvironment
};

// The names of what the suite would time for this variant, with the errors of
// MeasureThroughput.
absl::StatusOr<std::vector<std::string>> NamesOf(const SuiteRequest& request,
                                                 const Variant& variant);

// Measures the variant. Contenders that are wrong, or cannot do a shape, are in
// the record with the reason; an error is returned for options that the variant
// does not have, and a filter that is no regular expression. show is called for
// every measurement as soon as its group, all phases of a shape, is timed.
absl::StatusOr<ThroughputRecord> MeasureThroughput(
    const SuiteRequest& request, const Variant& variant,
    const std::function<void(const ThroughputMeasurement&)>& show);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_SUITE_H_
