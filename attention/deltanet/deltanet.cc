// SPDX-License-Identifier: Apache-2.0
//
// DeltaNet (arXiv 2406.06484): a linear memory written by the delta rule. Where
// linear attention adds a value, it corrects what the memory answers to the
// key,
//
//   S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T,
//   o_t = key_dim^-1/2 S_t^T q_t,
//
// so that an association can be overwritten, and keys need not be orthogonal.
// Nothing fades: without a write that points at it a memory stays for good. The
// layer is parts/delta_mixer.h without an output gate.

#include <memory>

#include "attention/parts/delta_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "deltanet";
  d.title = "DeltaNet";
  d.family = "delta rule";
  d.paper = "arXiv 2406.06484";
  d.summary = "a linear memory that corrects its answers instead of adding up";
  d.tolerance = 1e-6;
  d.options = DeltaMixer::Specs(/*value_factor=*/1);
  d.variations = {{{"value_factor", "2"}, {"negative_eigenvalues", "true"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<DeltaOperator>(DeltaDecay::kNone, options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<DeltaMixer>(config, DeltaDecay::kNone);
     }});

}  // namespace
}  // namespace mneme
