// SPDX-License-Identifier: Apache-2.0
//
// Gated DeltaNet (arXiv 2412.06464): the delta rule on a memory that fades,
//
//   S'_t = e^{g_t} S_{t-1},   S_t = S'_t + beta_t k_t (v_t - S'_t^T k_t)^T,
//   o_t = key_dim^-1/2 S_t^T q_t,
//
// with one log decay a token and head, Mamba's gate: g = -A softplus(x W_a +
// b), where A starts uniform on (0, 16) and softplus(b) log-uniform on [1e-3,
// 0.1]. Targeted overwriting and wholesale forgetting complement one another.
// The layer is parts/delta_mixer.h with values twice as wide as keys and output
// norm(o) * silu(x W_g).

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "attention/parts/delta_mixer.h"
#include "attention/parts/gate_init.h"
#include "attention/tensor/ops.h"
#include "attention/variant.h"

namespace mneme {
namespace {

class GatedDeltaNetMixer : public DeltaMixer {
 public:
  explicit GatedDeltaNetMixer(const MixerConfig& config)
      : DeltaMixer(config, DeltaDecay::kPerHead),
        step_(AddDense(config, "step", config.width, layout().heads)),
        step_bias_(AddStepBias(absl::StrCat(config.name, ".step_bias"),
                               layout().heads, config.parameters)),
        // The logarithm of A, kept away from that of 0.
        rate_(AddStratified(
            absl::StrCat(config.name, ".rate"), layout().heads,
            [](double u) { return std::log(16 * std::max(u, 1e-3)); },
            config.parameters)),
        gate_(AddDense(config, "gate", config.width,
                       layout().heads * layout().value_dim)) {}

 private:
  Variable LogDecay(const MixerCall& call) const override {
    Tape* tape = call.x.tape();
    Variable step =
        Map(kernels::Unary::kSoftplus,
            Linear(call.x, tape->Use(*step_), tape->Use(*step_bias_)));
    return StepsToLogDecay(step, tape->Use(*rate_));
  }

  Variable Gate(const MixerCall& call, Variable normed) const override {
    Variable gate = Linear(call.x, call.x.tape()->Use(*gate_));
    return SiluGate(normed, Reshape(gate, normed.shape()));
  }

  const Parameter* step_;
  const Parameter* step_bias_;
  const Parameter* rate_;
  const Parameter* gate_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "gated_deltanet";
  d.title = "Gated DeltaNet";
  d.family = "delta rule";
  d.paper = "arXiv 2412.06464";
  d.version = 2;
  d.summary =
      "the delta rule on a memory that fades at a learned rate per head";
  d.tolerance = 1e-6;
  d.options = DeltaMixer::Specs(/*value_factor=*/2);
  d.variations = {{{"value_factor", "1"}, {"negative_eigenvalues", "true"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<DeltaOperator>(DeltaDecay::kPerHead, options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<GatedDeltaNetMixer>(config);
     }});

}  // namespace
}  // namespace mneme
