// SPDX-License-Identifier: Apache-2.0
//
// Gated linear attention (arXiv 2312.06635): a linear memory in which every key
// dimension fades at a rate of its own, chosen by the token,
//
//   S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T,   o_t = key_dim^-1/2 S_t^T q_t,
//   g_t = log sigmoid(x_t W_1 W_2 + b) / 16.
//
// The division makes memories long from the start: sigmoid(0)^(1/16) = 0.96.
// W_1 W_2 has rank 16. Keys are half as wide as values; every head's output is
// normalised (RMS, one gain for all heads) and gated: (norm(o) * silu(x W_g))
// W_o.

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/vector_decay_operator.h"
#include "attention/variant.h"

namespace mneme {
namespace {

constexpr double kGateNormaliser = 16;
constexpr double kNormEps = 1e-5;

std::unique_ptr<Operator> MakeOperator(const Options& options) {
  return std::make_unique<VectorDecayOperator>(VectorDecayOperator::Rule(),
                                               options.Int("chunk"));
}

class GlaMixer : public QkvMixer {
 public:
  GlaMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, MakeOperator(config.options), layout) {
    const int64_t keys = layout.heads * layout.key_dim;
    const int64_t rank = config.options.Int("gate_rank");
    const auto name = [&](const char* part) {
      return absl::StrCat(config.name, ".", part);
    };
    decay_down_ = AddDense(config, "decay_down", config.width, rank);
    decay_up_ = AddDense(config, "decay_up", rank, keys);
    decay_bias_ = config.parameters->Add(name("decay_bias"), {keys},
                                         Init::Zeros(), /*decay=*/false);
    gate_ =
        AddDense(config, "gate", config.width, layout.heads * layout.value_dim);
    gain_ = config.parameters->Add(name("norm"), {layout.value_dim},
                                   Init::Constant(1), /*decay=*/false);
  }

 protected:
  void Prepare(const MixerCall& call, int64_t,
               std::vector<Variable>* inputs) const override {
    Variable key = (*inputs)[1];
    if (!key.valid()) return;
    Tape* tape = key.tape();
    Variable logits = Linear(Linear(call.x, tape->Use(*decay_down_)),
                             tape->Use(*decay_up_), tape->Use(*decay_bias_));
    Variable g =
        Scale(Map(kernels::Unary::kLogSigmoid, logits), 1 / kGateNormaliser);
    inputs->push_back(Reshape(g, key.shape()));
  }

  Variable Finish(const MixerCall& call, const std::vector<Variable>&,
                  Variable o) const override {
    if (!o.valid()) return o;
    Tape* tape = o.tape();
    Variable normed =
        Norm(kernels::NormKind::kRms, o, tape->Use(*gain_), {}, kNormEps);
    Variable gate = Linear(call.x, tape->Use(*gate_));
    return SiluGate(normed, Reshape(gate, o.shape()));
  }

 private:
  const Parameter *decay_down_, *decay_up_, *decay_bias_, *gate_, *gain_;
};

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  const int64_t factor = config.options.Int("value_factor");
  if (layout.value_dim % factor != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "value_factor=", factor, " must divide the width of a head, ",
        layout.value_dim, ": keys are that much narrower than values"));
  }
  layout.key_dim = layout.value_dim / factor;
  return std::make_unique<GlaMixer>(config, layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "gla";
  d.title = "Gated linear attention";
  d.family = "additive recurrence";
  d.paper = "arXiv 2312.06635";
  d.summary = "a linear memory with a learned decay per token and dimension";
  d.tolerance = 4e-7;  // measured 2.9e-7
  d.options = {
      OptionSpec::Int("value_factor", 2, 1, 8,
                      "value width of a head in multiples of its key width"),
      OptionSpec::Int("gate_rank", 16, 1, 256,
                      "rank of the projection to the decays"),
      OptionSpec::Int("chunk", 64, 1, 4096,
                      "tokens between states kept for the backward")};
  d.variations = {{{"value_factor", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return MakeOperator(options);
     },
     MakeMixer});

}  // namespace
}  // namespace mneme
