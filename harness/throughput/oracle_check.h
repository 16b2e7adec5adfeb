// SPDX-License-Identifier: Apache-2.0
//
// No implementation is timed before it has computed the right thing.

#ifndef MNEME_HARNESS_THROUGHPUT_ORACLE_CHECK_H_
#define MNEME_HARNESS_THROUGHPUT_ORACLE_CHECK_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/oracle.h"

namespace mneme {

// Makes the contender's workload on the oracle's problem and runs it once,
// after it has solved the shortened one. Tolerances of that are
//   - for outputs, the variant's times kOracleSlack, as sums are longer here,
//   or
//     kBf16Slack for products of bfloat16, whose sums are not rounded to it;
//   - for gradients, kGradientTolerance, or kGradientSlack times the former in
//     float32 where that is more.
// On the problem itself everything must be finite, and where outputs do not
// depend on later tokens, the first must be those of the shortened one too.
// What float64 can do in seconds (Oracle::WholeForm) must be right to the last
// token, within tolerances that, but for products of bfloat16, grow with the
// root of the length beyond kCheckedTokens: it finds what chunks, roundings or
// a peer get wrong there, not what all forms of an operator get wrong in
// float64 as well.
//
// Errors count in parts of the largest value of kBlockTokens tokens of a
// sequence, or of kBlockFloor of the largest value of all, if that is more:
// means of more and more values become small, and those of late tokens have to
// be as right as the first.
//
// FailedPrecondition that says by how much it is wrong, and what Make returned.
// The workload is checked and warm.
inline constexpr double kOracleSlack = 8;
inline constexpr double kBf16Slack = 2;
inline constexpr double kGradientTolerance = 1e-4;
inline constexpr double kGradientSlack = 4;
inline constexpr int64_t kBlockTokens = 64;
inline constexpr double kBlockFloor = 1.0 / 64;
absl::StatusOr<std::unique_ptr<Workload>> MakeChecked(
    const Contender& contender, Oracle* oracle);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_ORACLE_CHECK_H_
