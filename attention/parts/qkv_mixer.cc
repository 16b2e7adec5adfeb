// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/qkv_mixer.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/tensor/ops.h"

namespace mneme {

const Parameter* AddDense(const MixerConfig& config, const std::string& name,
                          int64_t in, int64_t out, double xavier_gain) {
  const Init init = xavier_gain > 0
                        ? Init::Xavier(in, out, xavier_gain)
                        : Init::Uniform(1 / std::sqrt(static_cast<double>(in)));
  Parameter* added = config.parameters->Add(
      absl::StrCat(config.name, ".", name), {in, out}, init);
  added->role = name == "out" ? Role::kResidual : Role::kDense;
  return added;
}

const Parameter* AddBias(const MixerConfig& config, const std::string& name,
                         int64_t in, int64_t out) {
  Parameter* added = config.parameters->Add(
      absl::StrCat(config.name, ".", name), {out},
      Init::Uniform(1 / std::sqrt(static_cast<double>(in))), /*decay=*/false);
  added->role = Role::kBias;
  return added;
}

QkvMixer::Layout QkvMixer::EvenLayout(const MixerConfig& config) {
  Layout layout;
  layout.heads = layout.kv_heads = config.heads;
  layout.key_dim = layout.value_dim = config.width / config.heads;
  layout.short_conv = config.short_conv;
  return layout;
}

QkvMixer::QkvMixer(const MixerConfig& config, std::unique_ptr<Operator> op,
                   const Layout& layout)
    : op_(std::move(op)), layout_(layout) {
  const auto add = [&](const std::string& name, int64_t heads, int64_t dim) {
    const int64_t out = heads * dim;
    const Parameter* weight =
        AddDense(config, name, config.width, out, layout.gain_in);
    paths_.push_back({weight,
                      ShortConv(absl::StrCat(config.name, ".", name, "_conv"),
                                out, layout.short_conv, config.parameters),
                      heads, dim});
  };
  add("query", layout.heads, layout.key_dim);
  add("key", layout.kv_heads, layout.key_dim);
  add("value", layout.kv_heads, layout.value_dim);
  out_ = AddDense(config, "out", layout.heads * layout.value_dim, config.width,
                  layout.gain_out);
}

Variable QkvMixer::Forward(const MixerCall& call) const {
  Variable x = call.x;
  if (!x.valid()) return x;
  Tape* tape = x.tape();
  CompositeState* state = call.state;
  const int64_t batch = x.shape().dim(0), length = x.shape().dim(1);
  size_t part = 0;
  const auto next_state = [&]() {
    return state == nullptr ? nullptr : state->part(part++);
  };
  std::vector<Variable> inputs;
  for (const Path& path : paths_) {
    Variable y =
        path.conv.Apply(Linear(x, tape->Use(*path.weight)),
                        path.conv.has_state() ? next_state() : nullptr);
    if (layout_.conv_activation) y = Map(*layout_.conv_activation, y);
    inputs.push_back(Reshape(y, {batch, length, path.heads, path.dim}));
  }
  Prepare(call, state == nullptr ? 0 : state->position(), &inputs);
  Variable o = ApplyOperator(*op_, inputs, call.form, next_state());
  o = Finish(call, inputs, o);
  return LinearResidual(
      call.residual,
      Reshape(o, {batch, length, layout_.heads * layout_.value_dim}),
      tape->Use(*out_));
}

std::unique_ptr<CompositeState> QkvMixer::NewState(int64_t batch,
                                                   DType dtype) const {
  auto state = std::make_unique<CompositeState>(dtype, batch);
  for (const Path& path : paths_) {
    if (path.conv.has_state()) state->Add(path.conv.NewState(batch, dtype));
  }
  Dims dims;
  dims.batch = batch;
  dims.heads = layout_.heads;
  dims.kv_heads = layout_.kv_heads;
  dims.key_dim = layout_.key_dim;
  dims.value_dim = layout_.value_dim;
  dims.own = layout_.own;
  std::unique_ptr<State> memory = op_->NewState(dims, dtype);
  if (memory == nullptr) return nullptr;
  state->Add(std::move(memory));
  return state;
}

}  // namespace mneme
