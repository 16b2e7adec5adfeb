// SPDX-License-Identifier: Apache-2.0
//
// ReBased (arXiv 2402.10644): linear attention with a learnable quadratic
// kernel,
//
//   o_i = sum_{j <= i} (q^_i . k^_j)^2 / key_dim v_j / (sum of weights + eps),
//   x^ = gamma * LayerNorm(x) + beta  for x = q, k, eps = 1e-5.
//
// Unlike Based's Taylor polynomial the parabola reaches zero, so a pair can be
// ignored entirely, and the affine map learns where: gamma and beta shift its
// minimum. The price is a denominator without a lower bound; where all scores
// vanish the output is small instead of an average.
//
// The operator takes x^; the layer norm, over all heads at once as in the
// paper's code, belongs to the layer. Option `hybrid` puts Based's layers in
// between (parts/hybrid_mixer.h).

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/parts/hybrid_mixer.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/quadratic_operator.h"
#include "attention/variant.h"

namespace mneme {
namespace {

constexpr double kEps = 1e-5;      // of the denominator
constexpr double kNormEps = 1e-5;  // of the layer norms

enum Input { kQuery, kKey };

std::unique_ptr<Operator> NewOperator(const Options& options) {
  return std::make_unique<QuadraticOperator>(
      QuadraticKernel{/*constant=*/0, /*linear=*/0, /*square=*/1}, kEps,
      options.Int("chunk"));
}

class RebasedMixer : public QkvMixer {
 public:
  RebasedMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, NewOperator(config.options), layout) {
    const int64_t width = layout.heads * layout.key_dim;
    const auto add = [&](const char* name, double value) {
      return config.parameters->Add(absl::StrCat(config.name, ".", name),
                                    {width}, Init::Constant(value),
                                    /*decay=*/false);
    };
    gamma_[kQuery] = add("query_gamma", 1);
    gamma_[kKey] = add("key_gamma", 1);
    beta_[kQuery] = add("query_beta", 0);
    beta_[kKey] = add("key_beta", 0);
  }

 protected:
  void Prepare(const MixerCall&, int64_t,
               std::vector<Variable>* inputs) const override {
    for (Input i : {kQuery, kKey}) {
      Variable x = (*inputs)[i];
      if (!x.valid()) return;
      const Shape shape = x.shape();
      Tape* tape = x.tape();
      x = Norm(
          kernels::NormKind::kLayer,
          Reshape(x, {shape.dim(0), shape.dim(1), shape.dim(2) * shape.dim(3)}),
          tape->Use(*gamma_[i]), tape->Use(*beta_[i]), kNormEps);
      (*inputs)[i] = Reshape(x, shape);
    }
  }

 private:
  const Parameter* gamma_[2];
  const Parameter* beta_[2];
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "rebased";
  d.title = "ReBased";
  d.family = "additive recurrence";
  d.paper = "arXiv 2402.10644";
  d.summary = "squared scores of normalised, shifted queries and keys";
  d.tolerance = 2e-6;  // measured 1.2e-6
  d.options = WithHybridOptions(
      {OptionSpec::Int("feature_dim", 16, 1, 256,
                       "width of a head's queries and keys before squaring"),
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
           config, "rebased",
           [](const MixerConfig& layer) -> std::unique_ptr<Mixer> {
             QkvMixer::Layout layout = QkvMixer::EvenLayout(layer);
             layout.key_dim = layer.options.Int("feature_dim");
             return std::make_unique<RebasedMixer>(layer, layout);
           });
     }});

}  // namespace
}  // namespace mneme
