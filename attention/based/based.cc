// SPDX-License-Identifier: Apache-2.0
//
// Based (arXiv 2402.18668): linear attention whose kernel is the exponential's
// Taylor polynomial of second order,
//
//   o_i = sum_{j <= i} f(a_ij) v_j / (sum_{j <= i} f(a_ij) + eps),
//   f(a) = 1 + a + a^2 / 2,   a_ij = q_i . k_j / sqrt(key_dim),   eps = 1e-12.
//
// f >= 1/2 everywhere, so the denominator is safe. Queries and keys are
// projected to 16 numbers a head, which keeps the 1 + 16 + 136 features, and
// with them the state, small. The same scale applies in all forms.
//
// The paper's models alternate this layer with short window attention and gated
// convolutions: option `hybrid` (parts/hybrid_mixer.h). Without it every layer
// is this one, and the model's short convolution stands for the local part.

#include <memory>

#include "attention/parts/hybrid_mixer.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/quadratic_operator.h"
#include "attention/variant.h"

namespace mneme {
namespace {

constexpr double kEps = 1e-12;  // of the paper's training code

std::unique_ptr<Operator> NewOperator(const Options& options) {
  return std::make_unique<QuadraticOperator>(
      QuadraticKernel{/*constant=*/1, /*linear=*/1, /*square=*/0.5}, kEps,
      options.Int("chunk"));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "based";
  d.title = "Based";
  d.family = "additive recurrence";
  d.paper = "arXiv 2402.18668";
  d.summary = "second-order Taylor polynomial of the softmax kernel";
  d.exact = false;
  d.tolerance = 7e-7;  // measured 4.5e-7
  d.options = WithHybridOptions(
      {OptionSpec::Int("feature_dim", 16, 1, 256,
                       "width of a head's queries and keys before expansion"),
       OptionSpec::Int("chunk", 64, 1, 4096,
                       "tokens a block in the chunked form")});
  d.variations = {{{"hybrid", "window"}, {"window", "5"}},
                  {{"hybrid", "release"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return NewOperator(options);
     },
     [](const MixerConfig& config) {
       return MakeHybridMixer(
           config, "based",
           [](const MixerConfig& layer) -> std::unique_ptr<Mixer> {
             QkvMixer::Layout layout = QkvMixer::EvenLayout(layer);
             layout.key_dim = layer.options.Int("feature_dim");
             return std::make_unique<QkvMixer>(
                 layer, NewOperator(layer.options), layout);
           });
     }});

}  // namespace
}  // namespace mneme
