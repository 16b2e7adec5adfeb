// SPDX-License-Identifier: Apache-2.0
//
// No implementation is timed before it has computed the right thing.

#ifndef MNEME_HARNESS_THROUGHPUT_ORACLE_CHECK_H_
#define MNEME_HARNESS_THROUGHPUT_ORACLE_CHECK_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "harness/throughput/contender.h"

namespace mneme {

// Makes the contender's workload on the problem and runs it once, after it has
// solved Shortened(problem):
//   - outputs as the float64 Reference, within the tolerance times
//     kOracleSlack, as sums are longer here than where tolerances are stated;
//   - gradients, entry by entry, as the operator's own in float64, within
//     kGradientTolerance, or kGradientSlack times what outputs may be off where
//     that is more; and those, and so these, as the derivatives in random
//     directions of <output, d_output> by central differences of the Reference.
// On the problem itself everything must be finite, and where outputs do not
// depend on later tokens, the first must be the oracle's too. What float64 can
// do in seconds, with its context, must be what the operator itself gives in
// float64, entry by entry, to the last token, within tolerances that grow with
// the root of the length beyond kCheckedTokens: it finds what chunks, roundings
// or a peer get wrong there, not what the operator gets wrong in float64 as
// well. In bfloat16, whose tolerance is large beside the outputs of late
// tokens, it finds little.
//
// FailedPrecondition that says by how much it is wrong, and what Make returned.
// The workload is checked and warm.
inline constexpr double kOracleSlack = 8;
inline constexpr double kGradientTolerance = 1e-4;
inline constexpr double kGradientSlack = 4;
absl::StatusOr<std::unique_ptr<Workload>> MakeChecked(
    const Contender& contender, const Problem& problem);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_ORACLE_CHECK_H_
