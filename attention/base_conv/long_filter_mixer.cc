// SPDX-License-Identifier: Apache-2.0

#include "attention/base_conv/long_filter_mixer.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/fft_conv.h"
#include "attention/kernels/long_conv.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/short_conv.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

using kernels::MatrixView;

constexpr int64_t kFeatures = 3, kHidden = 16;
constexpr double kBand = 1e-4;  // the one frequency of the features

// Sequence b of [batch, length, channels] as a matrix.
template <typename T>
MatrixView<T> SequenceOf(const Tensor& x, int64_t b) {
  const size_t length = x.dim(1), channels = x.dim(2);
  return {x.data<T>() + b * length * channels, length, channels};
}

// x [batch, length, channels] convolved with filter [at least as many taps as
// tokens, channels]. With a cache, which it is appended to, x continues what is
// in there, and nothing is differentiable.
Variable LongConvolution(Variable x, Variable filter, KeyValueCache* cache) {
  if (!x.valid() || !filter.valid()) return {};
  Tape* tape = x.tape();
  const Shape shape = x.shape();
  const int64_t batch = shape.dim(0), length = shape.dim(1);
  const int64_t before = cache == nullptr ? 0 : cache->tokens();
  Tensor y = tape->New(shape);
  y.FillZero();
  if (cache != nullptr) {
    const Tensor keys = x.value().Reshaped({batch, length, 1, shape.dim(2)});
    cache->Append(keys, Tensor(x.dtype(), keys.shape().WithLast(0)));
  }
  DispatchDType(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const MatrixView<const T> taps = filter.value().Matrix<T>();
    for (int64_t b = 0; b < batch; ++b) {
      const MatrixView<const T> rows =
          cache == nullptr ? SequenceOf<T>(x.value(), b) : cache->Keys<T>(b, 0);
      kernels::LongConv(rows, taps, before, SequenceOf<T>(y, b));
    }
  });
  if (cache != nullptr) return tape->Input(std::move(y));
  return tape->Record(std::move(y), {x, filter}, [=](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      Tensor d_rows = tape->New(shape);
      Tensor d_filter = tape->New(filter.value().shape());
      std::vector<kernels::GradientSequence<T>> sequences;
      for (int64_t b = 0; b < batch; ++b) {
        sequences.push_back({SequenceOf<T>(x.value(), b), SequenceOf<T>(d_y, b),
                             SequenceOf<T>(d_rows, b)});
      }
      kernels::LongConvGradient(filter.value().Matrix<T>(), /*direct=*/length,
                                sequences, d_filter.Matrix<T>());
      if (x.needs_gradient()) {
        T* d_x = x.gradient().data<T>();
        kernels::Add(d_x, d_rows.data<T>(), d_x, d_rows.elements());
      }
      if (!filter.needs_gradient()) return;
      T* to = filter.gradient().data<T>();
      kernels::Add(to, d_filter.data<T>(), to, d_filter.elements());
    });
  });
}

Tensor PositionFeatures(int64_t length, DType dtype) {
  Tensor features(DType::kFloat64, {length, kFeatures});
  for (int64_t t = 0; t < length; ++t) {
    const double p = kBand * 2 * std::acos(-1.0) * t / length;
    double* row = features.data<double>() + t * kFeatures;
    row[0] = length == 1 ? 0 : static_cast<double>(t) / (length - 1);
    row[1] = std::cos(p);
    row[2] = -std::sin(p);
  }
  return features.Cast(dtype);
}

class LongFilterMixer : public Mixer {
 public:
  explicit LongFilterMixer(const MixerConfig& config)
      : width_(config.width),
        long_(config.layer % 2 == 1),
        short_conv_(config.name + ".filter", width_,
                    long_ ? 0 : config.options.Int("taps"), config.parameters,
                    /*bias=*/true),
        gate_(AddDense(config, "gate", width_, width_)),
        gate_bias_(AddBias(config, "gate_bias", width_, width_)) {
    if (!long_) return;
    features_ = PositionFeatures(config.max_length, config.parameters->dtype());
    in_ = AddDense(config, "filter_in", kFeatures, kHidden);
    in_bias_ = AddBias(config, "filter_in_bias", kFeatures, kHidden);
    out_ = AddDense(config, "filter_out", kHidden, width_);
    out_bias_ = AddBias(config, "filter_out_bias", kHidden, width_);
  }

  Variable Forward(const MixerCall& call) const override {
    Variable u = call.x;
    if (!u.valid()) return {};
    Tape* tape = u.tape();
    State* state = call.state == nullptr || call.state->size() == 0
                       ? nullptr
                       : call.state->part(0);
    Variable sum;
    if (long_) {
      const int64_t tokens =
          u.shape().dim(1) + (state == nullptr ? 0 : call.state->position());
      if (tokens > features_.dim(0)) {
        return tape->Fail(absl::InvalidArgumentError(absl::StrCat(
            "base_conv: its filter was made for ", features_.dim(0),
            " tokens; a sequence of ", tokens, " is too long")));
      }
      sum = LongConvolution(u, Filter(tape, tokens),
                            static_cast<KeyValueCache*>(state));
      sum = Add(sum, u);
    } else {
      sum = short_conv_.Apply(u, state);
    }
    Variable gate = Linear(u, tape->Use(*gate_), tape->Use(*gate_bias_));
    return Add(call.residual, Add(Multiply(sum, gate), u));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    if (long_) {
      // Every input as a key, and no values.
      state->Add(std::make_unique<KeyValueCache>(dtype, batch, /*kv_heads=*/1,
                                                 width_, /*value_dim=*/0));
    } else if (short_conv_.has_state()) {
      state->Add(short_conv_.NewState(batch, dtype));
    }
    return state;
  }

 private:
  // The first taps [taps, width].
  Variable Filter(Tape* tape, int64_t taps) const {
    Variable x = tape->Input(features_.Slice(0, {taps, kFeatures}));
    x = Linear(x, tape->Use(*in_), tape->Use(*in_bias_));
    return Linear(Map(kernels::Unary::kRelu, x), tape->Use(*out_),
                  tape->Use(*out_bias_));
  }

  int64_t width_;
  bool long_;
  ShortConv short_conv_;
  const Parameter *gate_, *gate_bias_;
  // Of a long filter.
  Tensor features_;  // [max_length, kFeatures]
  const Parameter *in_ = nullptr, *in_bias_ = nullptr, *out_ = nullptr,
                  *out_bias_ = nullptr;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Mixer>> MakeLongFilterMixer(
    const MixerConfig& config) {
  if (config.max_length < 1) {
    return absl::InvalidArgumentError(
        "base_conv: its long filter needs to know the longest sequence, "
        "max_length");
  }
  return std::make_unique<LongFilterMixer>(config);
}

}  // namespace mneme
