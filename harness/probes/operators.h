// SPDX-License-Identifier: Apache-2.0
//
// The operators that trials of a probe run on.

#ifndef MNEME_HARNESS_PROBES_OPERATORS_H_
#define MNEME_HARNESS_PROBES_OPERATORS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/variant.h"

namespace mneme {

// One for all trials; or one for each, where the variant draws something at
// random (VariantDescriptor::redraw) and `set` does not fix it: an interval
// over trials is to cover the luck of that draw, too.
using Operators = std::vector<std::unique_ptr<Operator>>;

// trials >= 1. Unimplemented, with a phrase that says why, for a variant
// without an operator.
absl::StatusOr<Operators> MakeOperators(const Variant& variant,
                                        const OptionValues& set, int64_t trials,
                                        uint64_t seed);

inline const Operator& OperatorOf(const Operators& operators, int64_t trial) {
  return *operators[operators.size() == 1 ? 0 : trial];
}

}  // namespace mneme

#endif  // MNEME_HARNESS_PROBES_OPERATORS_H_
