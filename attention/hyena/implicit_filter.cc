// SPDX-License-Identifier: Apache-2.0

#include "attention/hyena/implicit_filter.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "attention/parts/channelwise.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

constexpr int64_t kFeatures = 3;  // of a position
constexpr int kSineLayers = 3;
constexpr double kBand = 1e-4;  // the one frequency of the features
constexpr double kPositionRate = 1e-5 / 1e-3;
// Where the slowest and the fastest channel have decayed to kTarget, in L.
constexpr double kTarget = 0.01, kSlow = 1.5, kFast = 0.3;

// 0 for the first of n to 1 for the last.
double Part(int64_t i, int64_t n) {
  return static_cast<double>(i) / std::max<int64_t>(1, n - 1);
}

std::vector<double> PositionFeatures(int64_t length) {
  const double step = kBand * 2 * std::acos(-1.0) / length;
  std::vector<double> features;
  for (int64_t t = 0; t < length; ++t) {
    features.insert(features.end(),
                    {Part(t, length), std::cos(step * t), -std::sin(step * t)});
  }
  return features;
}

Tensor DecayWindow(int64_t length, int64_t width) {
  Tensor window(DType::kFloat64, {length, width});
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t c = 0; c < width; ++c) {
      const double slow = -std::log(kTarget) / kSlow;
      const double fast = -std::log(kTarget) / kFast;
      const double delta = slow + Part(c, width) * (fast - slow);
      window.data<double>()[t * width + c] = std::exp(-Part(t, length) * delta);
    }
  }
  return window;
}

}  // namespace

ImplicitFilter::ImplicitFilter(const MixerConfig& config, int64_t hidden_width,
                               double frequency)
    : window_(DecayWindow(config.max_length, config.width)
                  .Cast(config.parameters->dtype())) {
  // As published, nothing of the filter decays.
  const auto add = [&](const std::string& name, Shape shape, Init init) {
    return config.parameters->Add(absl::StrCat(config.name, ".filter_", name),
                                  std::move(shape), init, /*decay=*/false);
  };
  Parameter* positions = add("positions", {config.max_length, kFeatures},
                             Init::Values(PositionFeatures(config.max_length)));
  positions->learning_rate_scale = kPositionRate;
  positions_ = positions;
  int64_t in = kFeatures;
  for (int i = 0; i < kSineLayers; ++i) {
    const Init init = Init::Uniform(1 / std::sqrt(static_cast<double>(in)));
    const std::string name = absl::StrCat("layer", i);
    Parameter* weight = add(name, {in, hidden_width}, init);
    Parameter* bias = add(name + "_bias", {hidden_width}, init);
    weight->role = Role::kDense;
    bias->role = Role::kBias;
    layers_.push_back({weight, bias});
    in = hidden_width;
  }
  frequency_ = add("frequency", {1, hidden_width}, Init::Constant(frequency));
  Parameter* out = add("out", {in, config.width},
                       Init::Uniform(1 / std::sqrt(static_cast<double>(in))));
  out->role = Role::kDense;
  out_ = out;
}

Variable ImplicitFilter::Rows(Tape* tape, int64_t length) const {
  std::vector<int64_t> rows(length);
  std::iota(rows.begin(), rows.end(), 0);
  Variable x = GatherRows(tape->Use(*positions_), rows);
  for (const Layer& layer : layers_) {
    x = Linear(x, tape->Use(*layer.weight), tape->Use(*layer.bias));
    if (!x.valid()) return x;
    const Shape shape = x.shape();
    x = Channelwise(Reshape(x, {1, shape.dim(0), shape.dim(1)}), *frequency_,
                    nullptr);
    x = Reshape(Map(kernels::Unary::kSin, x), shape);
  }
  const Tensor window = window_.Slice(0, {length, window_.dim(1)});
  return Multiply(Linear(x, tape->Use(*out_)), tape->Input(window));
}

}  // namespace mneme
