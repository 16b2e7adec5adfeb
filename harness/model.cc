// SPDX-License-Identifier: Apache-2.0

#include "harness/model.h"

#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

constexpr double kNormEps = 1e-5;
constexpr double kPositionDeviation = 0.02;  // as GPT-2
constexpr int64_t kReadoutFactor = 4;

// The sinusoids of "Attention is all you need" (arXiv 1706.03762, section 3.5)
// for the given positions: [positions.size(), width].
Variable Sinusoids(Tape* tape, absl::Span<const int64_t> positions,
                   int64_t width) {
  Tensor values = tape->New({static_cast<int64_t>(positions.size()), width});
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = values.data<T>();
    for (const int64_t position : positions) {
      for (int64_t c = 0; c < width; ++c) {
        const double angle = static_cast<double>(position) *
                             std::pow(10000.0, -static_cast<double>(c / 2 * 2) /
                                                   static_cast<double>(width));
        *out++ = static_cast<T>(c % 2 == 0 ? std::sin(angle) : std::cos(angle));
      }
    }
  });
  return tape->Input(values);
}

}  // namespace

const std::vector<OptionSpec>& ModelOptionSpecs() {
  static const auto* specs = new std::vector<OptionSpec>{
      OptionSpec::Int("width", 64, 4, 4096, "width of the residual stream"),
      OptionSpec::Int("heads", 2, 1, 256, "heads; divides width"),
      OptionSpec::Int("layers", 2, 1, 64, "blocks"),
      OptionSpec::Int("short_conv", 3, 0, 8,
                      "taps of the causal convolution on queries, keys and "
                      "values of mixers that have none of their own; 0: none"),
      OptionSpec::Int("mlp_factor", 0, 0, 16,
                      "hidden width of the MLP in multiples of width; 0: none"),
      // At 0.02, GPT-2's, linear memories spend most of a short training
      // making tokens distinct; at 1 softmax does not start within it.
      OptionSpec::Real("embedding_deviation", 0.0625, 1e-6, 10,
                       "standard deviation of initial token embeddings"),
      OptionSpec::Bool("positions", false, "learned absolute positions")};
  return *specs;
}

int64_t ModelState::SerializedBytes() const {
  int64_t total = 0;
  for (const auto& layer : layers_) total += layer->Serialize().size();
  return total;
}

int64_t ModelState::BytesAfter(int64_t tokens) const {
  int64_t total = 0;
  for (const auto& layer : layers_) total += layer->BytesAfter(tokens);
  return total;
}

absl::StatusOr<std::unique_ptr<Model>> Model::Create(
    const Variant& variant, const Options& variant_options,
    const Options& options, int64_t vocabulary, int64_t max_length, DType dtype,
    uint64_t seed, Readout readout) {
  const int64_t width = options.Int("width"), heads = options.Int("heads"),
                layers = options.Int("layers"),
                hidden = options.Int("mlp_factor") * width;
  if (width % heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model.heads = ", heads, " must divide model.width = ", width));
  }
  auto model = std::unique_ptr<Model>(new Model(dtype, seed));
  ParameterSet& parameters = model->parameters_;
  const Init ones = Init::Constant(1);
  model->embedding_ =
      parameters.Add("embedding", {vocabulary, width},
                     Init::Normal(options.Real("embedding_deviation")),
                     /*decay=*/false);
  if (options.Bool("positions")) {
    model->positions_ =
        parameters.Add("positions", {max_length, width},
                       Init::Normal(kPositionDeviation), /*decay=*/false);
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::string name = absl::StrCat("block", layer);
    Block block;
    block.mixer_gain =
        parameters.Add(name + ".mixer_norm", {width}, ones, /*decay=*/false);
    MixerConfig config;
    config.width = width;
    config.heads = heads;
    config.max_length = max_length;
    config.layer = static_cast<int>(layer);
    config.layers = static_cast<int>(layers);
    config.short_conv = options.Int("short_conv");
    config.options = variant_options;
    config.name = name + ".mixer";
    config.parameters = &parameters;
    absl::StatusOr<std::unique_ptr<Mixer>> mixer = variant.make_mixer(config);
    if (!mixer.ok()) return mixer.status();
    block.mixer = *std::move(mixer);
    if (hidden > 0) {
      block.mlp_gain =
          parameters.Add(name + ".mlp_norm", {width}, ones, /*decay=*/false);
      block.mlp_in =
          parameters.Add(name + ".mlp_in", {width, hidden},
                         Init::Uniform(1 / std::sqrt(double(width))));
      block.mlp_bias = parameters.Add(name + ".mlp_bias", {hidden},
                                      Init::Zeros(), /*decay=*/false);
      block.mlp_out =
          parameters.Add(name + ".mlp_out", {hidden, width},
                         Init::Uniform(1 / std::sqrt(double(hidden))));
    }
    model->blocks_.push_back(std::move(block));
  }
  if (readout == Readout::kLastPosition) {
    const int64_t inner = kReadoutFactor * width;
    model->readout_in_ =
        parameters.Add("readout_in", {width, inner},
                       Init::Uniform(1 / std::sqrt(double(width))));
    model->readout_bias_ =
        parameters.Add("readout_bias", {inner}, Init::Zeros(), /*decay=*/false);
    model->readout_out_ =
        parameters.Add("readout_out", {inner, width},
                       Init::Uniform(1 / std::sqrt(double(inner))));
  }
  model->final_gain_ =
      parameters.Add("final_norm", {width}, ones, /*decay=*/false);
  if (!parameters.status().ok()) return parameters.status();
  return model;
}

Variable Model::Normalised(Variable x, const Parameter* gain) const {
  if (!x.valid()) return x;
  return Norm(kernels::NormKind::kLayer, x, x.tape()->Use(*gain), {}, kNormEps);
}

Variable Model::Hidden(Tape* tape, absl::Span<const int32_t> tokens,
                       int64_t batch, int64_t length, Form form,
                       ModelState* state) const {
  Variable x = Embedding(tape->Use(*embedding_), tokens, batch, length);
  if (positions_ != nullptr) {
    const int64_t first = state == nullptr ? 0 : state->layer(0)->position();
    std::vector<int32_t> ids(batch * length);
    for (int64_t i = 0; i < batch * length; ++i) {
      ids[i] = static_cast<int32_t>(first + i % length);
    }
    x = Add(x, Embedding(tape->Use(*positions_), ids, batch, length));
  }
  CrossLayer shared;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    MixerCall call;
    call.residual = x;
    call.x = Normalised(x, block.mixer_gain);
    call.form = form;
    call.state = state == nullptr ? nullptr : state->layer(i);
    call.shared = &shared;
    x = block.mixer->Forward(call);
    if (call.state != nullptr) call.state->Advance(length);
    if (block.mlp_in != nullptr) {
      Variable hidden =
          Linear(Normalised(x, block.mlp_gain), tape->Use(*block.mlp_in),
                 tape->Use(*block.mlp_bias));
      x = LinearResidual(x, Map(kernels::Unary::kGelu, hidden),
                         tape->Use(*block.mlp_out));
    }
  }
  return x;
}

Variable Model::FromLastPosition(Variable hidden,
                                 absl::Span<const int64_t> rows) const {
  if (!hidden.valid()) return hidden;
  Tape* tape = hidden.tape();
  const int64_t length = hidden.shape().dim(1);
  std::vector<int64_t> last, positions;
  for (const int64_t row : rows) {
    last.push_back(row / length * length + length - 1);
    positions.push_back(row % length);
  }
  Variable x = Add(GatherRows(hidden, last),
                   Sinusoids(tape, positions, hidden.shape().dim(2)));
  Variable inner =
      Linear(x, tape->Use(*readout_in_), tape->Use(*readout_bias_));
  return LinearResidual(x, Map(kernels::Unary::kGelu, inner),
                        tape->Use(*readout_out_));
}

Variable Model::Logits(Variable hidden, absl::Span<const int64_t> rows) const {
  // The norm acts on rows, so it comes after the choice of rows: with one
  // position in eight scored, most of the head is never computed.
  Variable chosen =
      Normalised(readout_in_ == nullptr ? GatherRows(hidden, rows)
                                        : FromLastPosition(hidden, rows),
                 final_gain_);
  if (!chosen.valid()) return chosen;
  return LinearTransposed(chosen, chosen.tape()->Use(*embedding_));
}

std::unique_ptr<ModelState> Model::NewState(int64_t batch) const {
  std::vector<std::unique_ptr<CompositeState>> layers;
  for (const Block& block : blocks_) {
    layers.push_back(block.mixer->NewState(batch, parameters_.dtype()));
    if (layers.back() == nullptr) return nullptr;
  }
  return std::make_unique<ModelState>(std::move(layers));
}

}  // namespace mneme
