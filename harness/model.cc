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
constexpr double kDeviation = 0.02;  // as GPT-2
constexpr int64_t kReadoutFactor = 4;

// Draws the weights of all dense layers again, whatever their mechanisms' own
// initial values are.
void RedrawDense(const std::string& how, int64_t layers,
                 ParameterSet* parameters) {
  for (const auto& parameter : parameters->all()) {
    Parameter* p = parameter.get();
    const bool matrix = p->role == Role::kDense || p->role == Role::kResidual;
    if (how == "uniform" && matrix) {
      const double in = static_cast<double>(p->value.dim(0));
      parameters->Redraw(Init::Uniform(1 / std::sqrt(in)), p);
    } else if (how == "normal" && matrix) {
      // Two additions to the residual stream a layer, as in GPT-2.
      const double shrink =
          p->role == Role::kResidual ? 1 / std::sqrt(2.0 * layers) : 1;
      parameters->Redraw(Init::Normal(shrink * kDeviation), p);
    } else if (how == "normal" && p->role == Role::kBias) {
      parameters->Redraw(Init::Zeros(), p);
    }
  }
}

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
      OptionSpec::Bool("positions", false, "learned absolute positions"),
      OptionSpec::Choice("mlp", "gelu", {"gelu", "swiglu", "norm"},
                         "what follows a mixer: an MLP of mlp_factor; a gated "
                         "one of 2/3 of that, up to the next multiple of 16; "
                         "or the norm, as where the MLP is the identity"),
      OptionSpec::Bool("norm_bias", false, "biases in the model's norms"),
      OptionSpec::Real("embedding_dropout", 0, 0, 0.99,
                       "part of the embeddings that training drops"),
      OptionSpec::Choice("init", "own", {"own", "normal", "uniform"},
                         "of dense layers: as each mechanism's paper says; "
                         "normal as GPT-2's (0.02, less for a mixer's output, "
                         "biases 0); uniform on +-in^-1/2"),
      OptionSpec::Int("init_layers", 0, 0, 1024,
                      "how many layers initial values that depend on depth "
                      "reckon with; 0: as many as there are")};
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
                reckoned = options.Int("init_layers");
  const std::string mlp = options.Choice("mlp");
  int64_t hidden = options.Int("mlp_factor") * width;
  if (mlp == "swiglu") hidden = (hidden * 2 / 3 + 15) / 16 * 16;
  if (width % heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model.heads = ", heads, " must divide model.width = ", width));
  }
  auto model = std::unique_ptr<Model>(new Model(dtype, seed));
  ParameterSet& parameters = model->parameters_;
  model->embedding_dropout_ = options.Real("embedding_dropout");
  model->embedding_ =
      parameters.Add("embedding", {vocabulary, width},
                     Init::Normal(options.Real("embedding_deviation")),
                     /*decay=*/false);
  if (options.Bool("positions")) {
    model->positions_ =
        parameters.Add("positions", {max_length, width},
                       Init::Normal(kDeviation), /*decay=*/false);
  }
  const auto dense = [&](const std::string& name, int64_t in, int64_t out,
                         Role role) {
    Parameter* added = parameters.Add(name, {in, out},
                                      Init::Uniform(1 / std::sqrt(double(in))));
    added->role = role;
    return added;
  };
  const auto zeros = [&](const std::string& name, int64_t n) {
    Parameter* added =
        parameters.Add(name, {n}, Init::Zeros(), /*decay=*/false);
    added->role = Role::kBias;
    return added;
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::string name = absl::StrCat("block", layer);
    Block block;
    block.mixer_norm = model->AddNorm(name + ".mixer_norm", options);
    MixerConfig config;
    config.width = width;
    config.heads = heads;
    config.max_length = max_length;
    config.layer = static_cast<int>(layer);
    config.layers = static_cast<int>(reckoned > 0 ? reckoned : layers);
    config.short_conv = options.Int("short_conv");
    config.options = variant_options;
    config.name = name + ".mixer";
    config.parameters = &parameters;
    absl::StatusOr<std::unique_ptr<Mixer>> mixer = variant.make_mixer(config);
    if (!mixer.ok()) return mixer.status();
    block.mixer = *std::move(mixer);
    if (mlp == "norm" || hidden > 0) {
      block.mlp_norm = model->AddNorm(name + ".mlp_norm", options);
    }
    if (mlp != "norm" && hidden > 0) {
      block.mlp_in = dense(name + ".mlp_in", width, hidden, Role::kDense);
      if (mlp == "swiglu") {
        block.mlp_gate = dense(name + ".mlp_gate", width, hidden, Role::kDense);
      } else {
        block.mlp_bias = zeros(name + ".mlp_bias", hidden);
      }
      block.mlp_out = dense(name + ".mlp_out", hidden, width, Role::kResidual);
    }
    model->blocks_.push_back(std::move(block));
  }
  if (readout == Readout::kLastPosition) {
    const int64_t inner = kReadoutFactor * width;
    model->readout_in_ = dense("readout_in", width, inner, Role::kDense);
    model->readout_bias_ = zeros("readout_bias", inner);
    model->readout_out_ = dense("readout_out", inner, width, Role::kDense);
  }
  model->final_norm_ = model->AddNorm("final_norm", options);
  if (!parameters.status().ok()) return parameters.status();
  RedrawDense(options.Choice("init"), reckoned > 0 ? reckoned : layers,
              &parameters);
  return model;
}

Model::NormWeights Model::AddNorm(const std::string& name,
                                  const Options& options) {
  const int64_t width = options.Int("width");
  NormWeights norm;
  norm.gain =
      parameters_.Add(name, {width}, Init::Constant(1), /*decay=*/false);
  if (options.Bool("norm_bias")) {
    norm.bias = parameters_.Add(name + "_bias", {width}, Init::Zeros(),
                                /*decay=*/false);
  }
  return norm;
}

Variable Model::Normalised(Variable x, const NormWeights& norm) const {
  if (!x.valid()) return x;
  Tape* tape = x.tape();
  return Norm(kernels::NormKind::kLayer, x, tape->Use(*norm.gain),
              norm.bias == nullptr ? Variable() : tape->Use(*norm.bias),
              kNormEps);
}

Variable Model::Hidden(Tape* tape, absl::Span<const int32_t> tokens,
                       int64_t batch, int64_t length, Form form,
                       ModelState* state, const Noise* noise) const {
  Variable x = Embedding(tape->Use(*embedding_), tokens, batch, length);
  if (positions_ != nullptr) {
    const int64_t first = state == nullptr ? 0 : state->layer(0)->position();
    std::vector<int32_t> ids(batch * length);
    for (int64_t i = 0; i < batch * length; ++i) {
      ids[i] = static_cast<int32_t>(first + i % length);
    }
    x = Add(x, Embedding(tape->Use(*positions_), ids, batch, length));
  }
  if (noise != nullptr) {
    x = Dropout(x, embedding_dropout_, noise->seed, noise->first);
  }
  CrossLayer shared;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    MixerCall call;
    call.residual = x;
    call.x = Normalised(x, block.mixer_norm);
    call.form = form;
    call.state = state == nullptr ? nullptr : state->layer(i);
    call.shared = &shared;
    x = block.mixer->Forward(call);
    if (call.state != nullptr) call.state->Advance(length);
    if (block.mlp_in != nullptr) {
      Variable normalised = Normalised(x, block.mlp_norm), hidden;
      if (block.mlp_gate != nullptr) {
        hidden = SiluGate(Linear(normalised, tape->Use(*block.mlp_in)),
                          Linear(normalised, tape->Use(*block.mlp_gate)));
      } else {
        hidden = Map(kernels::Unary::kGelu,
                     Linear(normalised, tape->Use(*block.mlp_in),
                            tape->Use(*block.mlp_bias)));
      }
      x = LinearResidual(x, hidden, tape->Use(*block.mlp_out));
    } else if (block.mlp_norm.gain != nullptr) {
      x = Add(x, Normalised(x, block.mlp_norm));
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
                 final_norm_);
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
