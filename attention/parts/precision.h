// SPDX-License-Identifier: Apache-2.0
//
// Option `precision` of variants that can compute in bfloat16: what a call in
// float32 that keeps nothing for a backward works in, and what a growing cache
// holds. Calls in float64, and training, stay in their own precision.

#ifndef MNEME_ATTENTION_PARTS_PRECISION_H_
#define MNEME_ATTENTION_PARTS_PRECISION_H_

#include "attention/operator.h"
#include "attention/plugin/options.h"
#include "attention/variant.h"

namespace mneme {

inline constexpr char kPrecision[] = "precision";
inline constexpr char kBf16[] = "bf16";

// f32 or bf16.
inline OptionSpec PrecisionOption() {
  return OptionSpec::Choice(
      kPrecision, "f32", {"f32", kBf16},
      "of products and caches where nothing is trained; sums stay float32");
}

inline bool WantsBf16(const Options& options) {
  return options.Choice(kPrecision) == kBf16;
}

// Whether precision = bf16 means this call.
inline bool RunsInBf16(const OperatorCall& call) {
  return call.output.dtype() == DType::kFloat32 && !call.keep;
}

// Declares the tolerance under precision = bf16, and that it be tested.
inline void AddBf16Tolerance(double tolerance, VariantDescriptor* d) {
  d->other_tolerances.push_back({kPrecision, kBf16, tolerance});
  d->variations.push_back({{kPrecision, kBf16}});
}

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_PRECISION_H_
