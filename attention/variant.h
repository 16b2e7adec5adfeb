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

// What a mechanism stands in for, and what makes it better at that: `mneme
// approximation` turns a knob and measures how far off it is.
struct Approximation {
  // What the exact output is: that of a registered variant with its defaults;
  // kFullSoftmax, softmax attention in both directions; or kStoredPattern.
  std::string of;
  // The option that is turned; where patterns are retrieved, it may also be
  // kPatterns, how many there are.
  std::string knob;
  std::vector<int64_t> sizes;  // of the knob, rising
  OptionValues fixed = {};     // other options, as far as they matter
  // Standard deviation of the entries of queries and keys.
  double deviation = 1;

  // Where kStoredPattern is to be retrieved: what the operator makes of cues
  // [cues, dim], given patterns [patterns, dim]. Null where patterns are pairs
  // of themselves that Operator::PairInputs stores.
  std::function<absl::StatusOr<Tensor>(const Operator&, const Tensor& patterns,
                                       const Tensor& cues)>
      retrieve = nullptr;
};
inline constexpr char kFullSoftmax[] = "full softmax";
inline constexpr char kStoredPattern[] = "stored pattern";
inline constexpr char kPatterns[] = "patterns";

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
  // The same where an option has a value that changes it.
  struct OtherTolerance {
    std::string option, value;
    double tolerance;
  };
  std::vector<OtherTolerance> other_tolerances;
  std::vector<OptionSpec> options;
  // Settings beside the defaults under which the contract test runs too.
  std::vector<OptionValues> variations;
  std::vector<Approximation> approximations;
  // The option, a whole number, that seeds what the operator draws at random;
  // empty if it draws nothing. Probes draw anew for every trial.
  std::string redraw;
};

// The tolerance under these options, the largest that they ask for.
double ToleranceUnder(const VariantDescriptor& d, const Options& options);

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
