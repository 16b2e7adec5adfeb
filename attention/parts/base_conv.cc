// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/base_conv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/causal_conv.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/qkv_mixer.h"

namespace mneme {
namespace {

using kernels::MatrixView;
using kernels::Unary;

enum Input { kGate, kValue, kWeight };

int64_t Taps(const Dims& dims) { return dims.own.at('C'); }

// One sequence of x [batch, length, heads, value_dim], all channels.
template <typename T>
MatrixView<T> SequenceOf(const Tensor& x, int64_t b) {
  const size_t length = x.dim(1), channels = x.dim(2) * x.dim(3);
  return {x.data<T>() + b * length * channels, length, channels};
}

// w [taps, heads, value_dim] as [taps, channels].
template <typename T>
MatrixView<T> Filter(const Tensor& w) {
  return {w.data<T>(), static_cast<size_t>(w.dim(0)),
          static_cast<size_t>(w.dim(1) * w.dim(2))};
}

class BaseConvOperator : public Operator {
 public:
  explicit BaseConvOperator(int64_t chunk) : chunk_(chunk) {}

  std::vector<InputSpec> Inputs() const override {
    return {
        {"gate", "BLHV", "factors [batch, length, heads, value_dim]"},
        {"v", "BLHV", "convolved values [batch, length, heads, value_dim]"},
        {"w", "CHV", "filter [taps, heads, value_dim], newest token first"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    constexpr int64_t kMostTaps = 8;  // of the convolution kernel
    if (Taps(d) < 1 || Taps(d) > kMostTaps) {
      return absl::InvalidArgumentError(absl::StrCat(
          "base_conv: w has ", Taps(d), " taps; 1 to ", kMostTaps, " work"));
    }
    const size_t past = Taps(d) - 1, length = d.length;
    const size_t channels = d.heads * d.value_dim;
    const size_t block = ChunkOf(call->form, d.length, chunk_);
    const DType dtype = call->output.dtype();
    const Tensor convolved(call->arena, dtype, call->output.shape());
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      T* state =
          call->state == nullptr
              ? nullptr
              : static_cast<DenseState*>(call->state)->tensor().data<T>();
      kernels::ParallelFor(call->pool, d.batch, [&](size_t b, int) {
        // The past and x in one piece, so that every block finds its history
        // before it.
        std::vector<T> memory((past + length) * channels);
        const MatrixView<T> rows(memory.data(), past + length, channels);
        T* kept = state == nullptr ? nullptr : state + b * past * channels;
        const size_t past_bytes = past * channels * sizeof(T);
        if (kept != nullptr) std::memcpy(rows.data, kept, past_bytes);
        std::memcpy(rows.row(past), SequenceOf<T>(call->inputs[kValue], b).data,
                    length * channels * sizeof(T));
        const MatrixView<T> y = SequenceOf<T>(convolved, b);
        for (size_t start = 0; start < length; start += block) {
          const size_t n = std::min(block, length - start);
          kernels::CausalConvForward(rows.Rows(past + start, n),
                                     Filter<T>(call->inputs[kWeight]), nullptr,
                                     rows.Rows(start, past), y.Rows(start, n));
        }
        if (kept != nullptr) std::memcpy(kept, rows.row(length), past_bytes);
        T* o = SequenceOf<T>(call->output, b).data;
        kernels::Map(Unary::kSilu, y.data, o, length * channels);
        kernels::Multiply(o, SequenceOf<T>(call->inputs[kGate], b).data, o,
                          length * channels);
      });
    });
    if (call->keep) call->saved = {convolved};
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Tensor& convolved = call.saved[0];
    const DType dtype = d_output.dtype();
    const int64_t n = d_output.elements();
    Tensor product(call.arena, dtype, d_output.shape());
    Tensor d_convolved(call.arena, dtype, d_output.shape());
    d_convolved.FillZero();
    // The kernel makes both of its gradients; unwanted ones go to scratch.
    Tensor targets[3];
    for (Input i : {kValue, kWeight}) {
      targets[i] = d_inputs[i].empty() ? Tensor(dtype, call.inputs[i].shape())
                                       : d_inputs[i];
    }
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      if (!d_inputs[kGate].empty()) {
        kernels::Map(Unary::kSilu, convolved.data<T>(), product.data<T>(), n);
        kernels::MultiplyAdd(d_output.data<T>(), product.data<T>(),
                             d_inputs[kGate].data<T>(), n);
      }
      kernels::Multiply(d_output.data<T>(), call.inputs[kGate].data<T>(),
                        product.data<T>(), n);
      kernels::MapBackward(Unary::kSilu, convolved.data<T>(), product.data<T>(),
                           d_convolved.data<T>(), n);
      // All sequences add to one filter: in order, on one thread.
      for (int64_t b = 0; b < call.dims.batch; ++b) {
        kernels::CausalConvBackward(SequenceOf<T>(call.inputs[kValue], b),
                                    Filter<T>(call.inputs[kWeight]),
                                    SequenceOf<T>(d_convolved, b),
                                    SequenceOf<T>(targets[kValue], b),
                                    Filter<T>(targets[kWeight]), nullptr);
      }
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<DenseState>(
        dtype, Shape({d.batch, Taps(d) - 1, d.heads, d.value_dim}));
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * (Taps(d) - 1) * d.heads * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double channels = static_cast<double>(d.heads) * d.value_dim;
    const double values = channels * d.batch * d.length;
    Cost cost;
    // A sum of products, x sigmoid(x), the gate.
    cost.flops = values * (2.0 * Taps(d) - 1 + 3 + 1);
    cost.exps = values;
    cost.bytes = sizeof(float) * (3 * values + Taps(d) * channels);
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto x = call.inputs[kValue].Sequence<double>(b, h);
        const auto gate = call.inputs[kGate].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        const double* w = call.inputs[kWeight].data<double>();
        for (int64_t t = 0; t < d.length; ++t) {
          for (int64_t c = 0; c < d.value_dim; ++c) {
            double sum = 0;
            for (int64_t j = 0; j < Taps(d) && j <= t; ++j) {
              sum += w[(j * d.heads + h) * d.value_dim + c] * x(t - j, c);
            }
            o(t, c) = sum / (1 + std::exp(-sum)) * gate(t, c);
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  int64_t chunk_;
};

class BaseConvMixer : public Mixer {
 public:
  // channels of the convolution, a multiple of config.heads.
  BaseConvMixer(const MixerConfig& config, const BaseConvLayout& layout,
                int64_t channels)
      : op_(layout.chunk),
        heads_(config.heads),
        channels_(channels),
        taps_(layout.taps) {
    const int64_t width = config.width;
    value_ = AddDense(config, "value", width, channels);
    value_bias_ = AddBias(config, "value_bias", width, channels);
    gate_ = AddDense(config, "gate", width, channels);
    gate_bias_ = AddBias(config, "gate_bias", width, channels);
    filter_ = config.parameters->Add(
        absl::StrCat(config.name, ".filter"),
        {taps_, heads_, channels / heads_},
        Init::Uniform(1 / std::sqrt(static_cast<double>(taps_))));
    out_ = AddDense(config, "out", channels, width);
    out_bias_ = AddBias(config, "out_bias", channels, width);
  }

  Variable Forward(const MixerCall& call) const override {
    if (!call.x.valid()) return {};
    Tape* tape = call.x.tape();
    const int64_t batch = call.x.shape().dim(0), length = call.x.shape().dim(1);
    const auto project = [&](const Parameter* weight, const Parameter* bias) {
      return Reshape(Linear(call.x, tape->Use(*weight), tape->Use(*bias)),
                     {batch, length, heads_, channels_ / heads_});
    };
    Variable o = ApplyOperator(
        op_,
        {project(gate_, gate_bias_), project(value_, value_bias_),
         tape->Use(*filter_)},
        call.form, call.state == nullptr ? nullptr : call.state->part(0));
    return Add(call.residual, Linear(Reshape(o, {batch, length, channels_}),
                                     tape->Use(*out_), tape->Use(*out_bias_)));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    Dims dims;
    dims.batch = batch;
    dims.heads = heads_;
    dims.value_dim = channels_ / heads_;
    dims.own['C'] = taps_;
    auto state = std::make_unique<CompositeState>(dtype, batch);
    state->Add(op_.NewState(dims, dtype));
    return state;
  }

 private:
  BaseConvOperator op_;
  int64_t heads_, channels_, taps_;
  const Parameter *value_, *value_bias_, *gate_, *gate_bias_;
  const Parameter *filter_, *out_, *out_bias_;
};

}  // namespace

std::unique_ptr<Operator> NewBaseConvOperator(int64_t chunk) {
  return std::make_unique<BaseConvOperator>(chunk);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeBaseConvMixer(
    const MixerConfig& config, absl::string_view variant,
    const BaseConvLayout& layout) {
  const int64_t channels = layout.expand * config.width / 2;
  if (layout.expand * config.width % 2 != 0 || channels % config.heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        variant, ": expand = ", layout.expand,
        " gives expand * width / 2 = ", layout.expand * config.width / 2.0,
        " channels, which heads = ", config.heads, " must divide"));
  }
  return std::make_unique<BaseConvMixer>(config, layout, channels);
}

}  // namespace mneme
