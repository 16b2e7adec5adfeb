// SPDX-License-Identifier: Apache-2.0
//
// Kimi Delta Attention (arXiv 2510.26692): the gated delta rule with a log
// decay for each key dimension,
//
//   S'_t = diag(e^{g_t}) S_{t-1},
//   S_t = S'_t + beta_t k_t (v_t - S'_t^T k_t)^T,
//   o_t = key_dim^-1/2 S_t^T q_t,
//   g = -A_h softplus(x W_1 W_2 + b)   with W_1 W_2 of rank key_dim,
//
// so that a head can hold some features long and others briefly. A starts
// uniform on (1, 16), softplus(b) log-uniform on [1e-3, 0.1]. The layer is
// parts/delta_mixer.h with output norm(o) * sigmoid(x W_3 W_4 + c), a gate of
// rank value_dim.

#include <cmath>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "attention/parts/delta_mixer.h"
#include "attention/parts/gate_init.h"
#include "attention/parts/low_rank.h"
#include "attention/tensor/ops.h"
#include "attention/variant.h"

namespace mneme {
namespace {

LowRank AddLowRank(const MixerConfig& config, const std::string& name,
                   int64_t rank, int64_t out, const Parameter* bias) {
  return {AddDense(config, absl::StrCat(name, "_down"), config.width, rank),
          AddDense(config, absl::StrCat(name, "_up"), rank, out), bias,
          absl::nullopt};
}

class KdaMixer : public DeltaMixer {
 public:
  explicit KdaMixer(const MixerConfig& config)
      : DeltaMixer(config, DeltaDecay::kPerKeyDim),
        step_(AddLowRank(
            config, "step", layout().key_dim, KeyWidth(),
            AddStepBias(absl::StrCat(config.name, ".step_bias"), KeyWidth(),
                        config.parameters, layout().heads))),
        gate_(AddLowRank(
            config, "gate", layout().value_dim, ValueWidth(),
            config.parameters->Add(absl::StrCat(config.name, ".gate_bias"),
                                   {ValueWidth()}, Init::Zeros(),
                                   /*decay=*/false))),
        rate_(AddStratified(
            absl::StrCat(config.name, ".rate"), layout().heads,
            [](double u) { return std::log(1 + 15 * u); }, config.parameters)) {
  }

 private:
  int64_t KeyWidth() const { return layout().heads * layout().key_dim; }
  int64_t ValueWidth() const { return layout().heads * layout().value_dim; }

  Variable LogDecay(const MixerCall& call) const override {
    Variable g = StepsToLogDecay(Map(kernels::Unary::kSoftplus, step_(call.x)),
                                 call.x.tape()->Use(*rate_));
    if (!g.valid()) return g;
    return Reshape(g, {g.shape().dim(0), g.shape().dim(1), layout().heads,
                       layout().key_dim});
  }

  Variable Gate(const MixerCall& call, Variable normed) const override {
    Variable gate = Map(kernels::Unary::kSigmoid, gate_(call.x));
    return Multiply(normed, Reshape(gate, normed.shape()));
  }

  LowRank step_, gate_;
  const Parameter* rate_;  // log A
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "kda";
  d.title = "Kimi Delta Attention";
  d.family = "delta rule";
  d.paper = "arXiv 2510.26692";
  d.version = 2;
  d.summary = "the delta rule on a memory whose key dimensions fade apart";
  d.tolerance = 5e-7;  // measured 3.7e-7
  d.options = DeltaMixer::Specs(/*value_factor=*/1);
  d.variations = {{{"value_factor", "2"}, {"negative_eigenvalues", "true"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<DeltaOperator>(DeltaDecay::kPerKeyDim, options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<KdaMixer>(config);
     }});

}  // namespace
}  // namespace mneme
