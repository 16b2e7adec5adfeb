// SPDX-License-Identifier: Apache-2.0
//
// How far approximations are from what they approximate, as a knob is turned
// (Approximation in attention/variant.h).
//
// Of a variant's output, on 512 tokens of two heads of 32 with independent
// normal entries, of deviation 1 for values and as the approximation says for
// queries and keys: |approximate - exact| / |exact|, Frobenius norms over the
// whole output. Every trial has inputs of its own, and redraws what the
// approximation draws at random.
//
// Of stored patterns: N patterns uniform on the sphere of radius sqrt(64) in 64
// dimensions, and up to 32 of them retrieved from cues that lie half that
// radius away in random directions: |retrieved - stored| / |stored| over all of
// them.

#ifndef MNEME_HARNESS_PROBES_APPROXIMATION_H_
#define MNEME_HARNESS_PROBES_APPROXIMATION_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "attention/variant.h"
#include "harness/probe.pb.h"

namespace mneme {

// The curve of one of the variant's approximations, means over trials. set is
// what the variant's other options are, the approximation's `fixed` winning.
absl::StatusOr<ApproximationCurve> MeasureApproximation(
    const Variant& variant, const Approximation& approximation,
    const OptionValues& set, int64_t trials, uint64_t seed);

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_APPROXIMATION_H_
