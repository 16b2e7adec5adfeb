// SPDX-License-Identifier: Apache-2.0
//
// RWKV-6, "Finch" (arXiv 2404.05892): a linear memory in which every key
// dimension fades at a rate of its own, chosen by the token, and which is read
// before the token is written,
//
//   o_t = (S_{t-1} + diag(u) k_t v_t^T)^T r_t,
//   S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T,   g_t = -exp(w0 + lora_w(x_t)).
//
// The token itself is seen through the learned bonus u alone; there is no
// scale. Receptance r (the query), key, value, decay and gate each read their
// own mixture of a token and the one before, whose weights depend on the token:
//
//   x_i = x + (x_prev - x) * (mu_i + tanh(b W_i) W'_i),
//   b   = x + (x_prev - x) * mu_x.
//
// Every head's output is normalised (mean and variance, gain and bias for each
// channel) and gated: (norm(o) * silu(x_g W_g)) W_o. Initial mixtures, decays
// and bonuses are those of the published code, which depend on channel and
// layer; so is the norm's eps, 64e-5. Its other initial values are not: it
// draws orthogonal matrices, smaller for keys and gates and zero for the
// output, and starts the norm's gain at ((layer + 1) / layers)^0.7; and it
// exempts the matrices of low rank from weight decay.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/channelwise.h"
#include "attention/parts/low_rank.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/rwkv_init.h"
#include "attention/parts/token_shift.h"
#include "attention/parts/vector_decay_operator.h"
#include "attention/variant.h"

namespace mneme {
namespace {

VectorDecayOperator MakeOperator(const Options& options) {
  VectorDecayOperator::Rule rule;
  rule.bonus = true;
  rule.scaled = false;
  return VectorDecayOperator(rule, options.Int("chunk"));
}

// tanh(x W) W' + bias, with W initially zero: only the bias acts at the start.
LowRank AddLowRank(const MixerConfig& config, const std::string& name,
                   int64_t rank, std::vector<double> bias) {
  const std::string path = absl::StrCat(config.name, ".", name);
  const int64_t n = bias.size();
  LowRank added;
  added.down = config.parameters->Add(path + "_down", {config.width, rank},
                                      Init::Zeros());
  added.up =
      config.parameters->Add(path + "_up", {rank, n}, Init::Uniform(0.01));
  added.bias = config.parameters->Add(path, {n}, Init::Values(std::move(bias)),
                                      /*decay=*/false);
  added.activation = kernels::Unary::kTanh;
  return added;
}

class Rwkv6Mixer : public Mixer {
 public:
  explicit Rwkv6Mixer(const MixerConfig& config)
      : op_(MakeOperator(config.options)),
        width_(config.width),
        heads_(config.heads) {
    const int64_t mix_rank = config.options.Int("mix_rank");
    const RwkvInit published(config);
    const auto add_vector = [&](const char* name, Shape shape, Init init) {
      return config.parameters->Add(absl::StrCat(config.name, ".", name), shape,
                                    init, /*decay=*/false);
    };
    const auto add_path = [&](const std::string& name, double power,
                              double offset) {
      paths_.push_back(
          {AddLowRank(config, name + "_mix", mix_rank,
                      published.Shift(power, offset)),
           name == "decay" ? nullptr : AddDense(config, name, width_, width_)});
    };
    add_path("receptance", 0.5, 0);
    add_path("key", 1, 0);
    add_path("value", 1, 0.3 * published.depth());
    add_path("decay", 1, 0);
    add_path("gate", 0.5, 0);
    base_mix_ = add_vector("base_mix", {1, width_},
                           Init::Values(published.Shift(1, 0)));
    decay_ = AddLowRank(config, "decay", config.options.Int("decay_rank"),
                        published.LogRates(-6, 5));
    const std::vector<double> bonus = published.Channels(
        [&](double c) { return published.depth() * (1 - c); });
    bonus_ = add_vector("bonus", {heads_, width_ / heads_},
                        Init::Values(RwkvInit::Zigzag(bonus, 0.1)));
    gain_ = add_vector("norm", {1, width_}, Init::Constant(1));
    offset_ = add_vector("norm_bias", {width_}, Init::Zeros());
    out_ = AddDense(config, "out", width_, width_);
  }

  Variable Forward(const MixerCall& call) const override {
    Variable x = call.x;
    if (!x.valid()) return x;
    Tape* tape = x.tape();
    const Shape by_head(
        {x.shape().dim(0), x.shape().dim(1), heads_, width_ / heads_});
    const auto part = [&](size_t i) {
      return call.state == nullptr ? nullptr : call.state->part(i);
    };
    Variable difference = TokenShiftDifference(x, part(0));
    Variable base = Add(x, Channelwise(difference, *base_mix_, nullptr));
    // Receptance, key, value, decay, gate.
    std::vector<Variable> y;
    for (const Path& path : paths_) {
      Variable mixed = Add(x, Multiply(difference, path.mix(base)));
      y.push_back(path.weight == nullptr
                      ? decay_(mixed)
                      : Linear(mixed, tape->Use(*path.weight)));
    }
    Variable gate = y.back();
    y.pop_back();
    y[kDecay] = Scale(Map(kernels::Unary::kExp, y[kDecay]), -1);
    for (Variable& input : y) input = Reshape(input, by_head);
    y.push_back(tape->Use(*bonus_));
    Variable o = ApplyOperator(op_, y, call.form, part(1));
    o = HeadNorm(o, *gain_, *offset_, kNormEps);
    return LinearResidual(call.residual, SiluGate(o, gate), tape->Use(*out_));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    state->Add(NewTokenShiftState(batch, width_, dtype));
    Dims dims;
    dims.batch = batch;
    dims.heads = heads_;
    dims.key_dim = dims.value_dim = width_ / heads_;
    state->Add(op_.NewState(dims, dtype));
    return state;
  }

 private:
  static constexpr size_t kDecay = 3;  // of paths_
  static constexpr double kNormEps = 64e-5;

  struct Path {  // one of receptance, key, value, decay, gate
    LowRank mix;
    const Parameter* weight;  // null: decay_ takes its place
  };

  VectorDecayOperator op_;
  int64_t width_, heads_;
  std::vector<Path> paths_;
  LowRank decay_;
  const Parameter *base_mix_, *bonus_, *gain_, *offset_, *out_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "rwkv6";
  d.title = "RWKV-6";
  d.family = "additive recurrence";
  d.paper = "arXiv 2404.05892";
  d.summary = "token shift; decay per dimension; reads before it writes";
  d.tolerance = 4e-7;  // measured 2.2e-7
  d.options = {OptionSpec::Int("mix_rank", 32, 1, 256,
                               "rank of the projections to the token mixtures"),
               OptionSpec::Int("decay_rank", 64, 1, 256,
                               "rank of the projection to the decays"),
               OptionSpec::Int("chunk", 64, 1, 4096,
                               "tokens between states kept for the backward")};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<VectorDecayOperator>(MakeOperator(options));
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<Rwkv6Mixer>(config);
     }});

}  // namespace
}  // namespace mneme
