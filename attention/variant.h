// SPDX-License-Identifier: Apache-2.0
//
// The contract between a mechanism and the rest of Mneme. A variant is a
// descriptor plus two factories, registered by name:
//
//   const bool registered = RegisterVariant({
//       Describe(), MakeOperator, MakeMixer});
//
// in a library declared with attention_variant() (defs.bzl), which also runs
// the contract test (variant_contract.h) on it.

#ifndef MNEME_ATTENTION_VARIANT_H_
#define MNEME_ATTENTION_VARIANT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "attention/mixer.h"
#include "attention/operator.h"
#include "attention/plugin/options.h"
#include "attention/plugin/registry.h"

namespace mneme {

struct VariantDescriptor {
  std::string name;       // as on the command line: lower_snake_case
  std::string title;      // as on the page: "Softmax attention"
  std::string family;     // "softmax", "additive recurrence", "delta rule", ...
  std::string paper;      // "arXiv 1706.03762"
  std::string summary;    // one line
  int version = 1;        // raised whenever results change on purpose
  bool causal = true;     // output t depends on inputs <= t only
  bool streaming = true;  // can decode token by token; else NewState is null
  bool exact = true;      // false: approximates another mechanism
  // Largest |float32 - oracle| / max(|oracle|, 1) on unit normal inputs.
  double tolerance = 1e-4;
  std::vector<OptionSpec> options;
  // Settings beside the defaults under which the contract test runs too.
  std::vector<OptionValues> variations;
};

struct Variant {
  VariantDescriptor descriptor;
  // Null for a mechanism that is no function of per-head arrays.
  std::function<absl::StatusOr<std::unique_ptr<Operator>>(const Options&)>
      make_operator;
  // Unimplemented for what the mechanism cannot do (say, this length).
  std::function<absl::StatusOr<std::unique_ptr<Mixer>>(const MixerConfig&)>
      make_mixer;
};

// The process-wide table of variants.
Registry<Variant>& Variants();

// Use at namespace scope in the variant's source.
bool RegisterVariant(Variant variant);

}  // namespace mneme

#endif  // MNEME_ATTENTION_VARIANT_H_
