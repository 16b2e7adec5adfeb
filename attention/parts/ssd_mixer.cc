// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/ssd_mixer.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/gate_init.h"
#include "attention/parts/qkv_mixer.h"

namespace mneme {

std::vector<OptionSpec> SsdMixerOptions() {
  return {OptionSpec::Int("expand", 2, 1, 8,
                          "inner width in multiples of the model's"),
          OptionSpec::Int("state_dim", 128, 1, 1024,
                          "numbers a channel remembers (key width)"),
          OptionSpec::Int("conv", 4, 2, 8, "taps of the short convolution")};
}

SsdMixer::SsdMixer(const MixerConfig& config)
    : heads_(config.heads),
      key_dim_(config.options.Int("state_dim")),
      value_dim_(config.options.Int("expand") * config.width / config.heads) {
  const int64_t inner = heads_ * value_dim_;
  const auto name = [&](const char* part) {
    return absl::StrCat(config.name, ".", part);
  };
  const auto add_path = [&](const char* part, int64_t out) {
    paths_.push_back({AddDense(config, part, config.width, out),
                      ShortConv(absl::StrCat(name(part), "_conv"), out,
                                config.options.Int("conv"), config.parameters,
                                /*bias=*/true)});
  };
  add_path("x", inner);
  add_path("b", key_dim_);
  add_path("c", key_dim_);
  gate_ = AddDense(config, "z", config.width, inner);
  step_ = AddDense(config, "dt", config.width, heads_);
  step_bias_ = AddStepBias(name("dt_bias"), heads_, config.parameters);
  log_transition_ = AddStratified(
      name("a_log"), heads_, [](double u) { return std::log(1 + 15 * u); },
      config.parameters);
  skip_ = config.parameters->Add(name("d"), {heads_}, Init::Constant(1),
                                 /*decay=*/false);
  gain_ = config.parameters->Add(name("norm"), {inner}, Init::Constant(1),
                                 /*decay=*/false);
  out_ = AddDense(config, "out", inner, config.width);
}

Variable SsdMixer::Forward(const MixerCall& call) const {
  using kernels::Unary;
  Variable u = call.x;
  if (!u.valid()) return u;
  Tape* tape = u.tape();
  const int64_t batch = u.shape().dim(0), length = u.shape().dim(1);
  const auto part = [&](size_t i) {
    return call.state == nullptr ? nullptr : call.state->part(i);
  };
  std::vector<Variable> xbc;
  for (const Path& path : paths_) {
    Variable y = Linear(u, tape->Use(*path.weight));
    xbc.push_back(Map(Unary::kSilu, path.conv.Apply(y, part(xbc.size()))));
  }
  const Inputs inputs = {
      Reshape(xbc[0], {batch, length, heads_, value_dim_}),
      xbc[1],
      xbc[2],
      Map(Unary::kSoftplus,
          Linear(u, tape->Use(*step_), tape->Use(*step_bias_))),
      Scale(Map(Unary::kExp, tape->Use(*log_transition_)), -1),
      tape->Use(*skip_)};
  Variable y = Recur(call, inputs, part(paths_.size()));
  y = Reshape(y, {batch, length, heads_ * value_dim_});
  y = SiluGate(y, Linear(u, tape->Use(*gate_)));
  y = Norm(kernels::NormKind::kRms, y, tape->Use(*gain_), {}, 1e-5);
  return LinearResidual(call.residual, y, tape->Use(*out_));
}

std::unique_ptr<CompositeState> SsdMixer::NewState(int64_t batch,
                                                   DType dtype) const {
  auto state = std::make_unique<CompositeState>(dtype, batch);
  for (const Path& path : paths_) {
    state->Add(path.conv.NewState(batch, dtype));
  }
  Dims dims;
  dims.batch = batch;
  dims.heads = heads_;
  dims.key_dim = key_dim_;
  dims.value_dim = value_dim_;
  state->Add(NewMemory(dims, dtype));
  return state;
}

}  // namespace mneme
