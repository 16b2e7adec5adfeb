// SPDX-License-Identifier: Apache-2.0
//
// Hyena of order two (arXiv 2302.10866): a convolution as long as the sequence
// between two gates, channel by channel,
//
//   y_t = x0_t * (sum_{s <= t} h_{t-s} z_s + bias * z_t),   z_s = x1_s * v_s.
//
// The filter h, a function of the position (implicit_filter.h), is the same
// whatever the tokens say: it weighs distances, and contents meet in the gates
// alone. Every channel has its own, however many heads: heads mean nothing
// here.
//
// kParallel convolves by transforms down to blocks of 64 tokens, kChunked down
// to blocks of `chunk`, below which SIMD sums are faster; both are causal to
// the last bit (kernels/fft_conv.h). Gradients of sequences longer than those
// blocks are by transforms alone. kRecurrent sums over all earlier tokens for
// each new one. There is no smaller exact state: decoding remembers every z, so
// it grows like a cache of keys.
//
// The layer projects to x0, x1 and v, each through a short convolution of three
// taps, and back; both projections and the short convolution have biases.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/hyena/implicit_filter.h"
#include "attention/kernels/fft_conv.h"
#include "attention/kernels/long_conv.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/short_conv.h"
#include "attention/variant.h"

namespace mneme {
namespace {

using kernels::MatrixView;

enum Input { kRead, kWrite, kValue, kFilter, kBias };
enum Saved { kGated, kConvolved };

constexpr int64_t kParallelBlock = 64;
constexpr int64_t kShortTaps = 3;

int64_t Taps(const Dims& d) { return d.own.at('S'); }

// One head's filter.
template <typename T>
MatrixView<const T> HeadFilter(const OperatorCall& call, int64_t head) {
  const Dims& d = call.dims;
  return {call.inputs[kFilter].data<T>() + head * d.value_dim,
          static_cast<size_t>(Taps(d)), static_cast<size_t>(d.value_dim),
          static_cast<size_t>(d.heads * d.value_dim)};
}

class HyenaOperator : public Operator {
 public:
  explicit HyenaOperator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {
        {"x0", "BLHV", "gates of what is read [batch, length, heads, dim]"},
        {"x1", "BLHV", "gates of what is written [batch, length, heads, dim]"},
        {"v", "BLHV", "values [batch, length, heads, dim]"},
        {"h", "SHV", "filter [taps >= length, heads, dim], newest token first"},
        {"bias", "HV", "added to the newest token's tap [heads, dim]"}};
  }

  int64_t OwnAxis(char, const Dims& d) const override { return d.length + 2; }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    auto* cache = static_cast<KeyValueCache*>(call->state);
    const int64_t before = cache == nullptr ? 0 : cache->tokens();
    const int64_t tokens = before + d.length;
    if (Taps(d) < tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("hyena: h has ", Taps(d), " taps for a sequence of ",
                       tokens, " tokens; it needs one for each"));
    }
    const DType dtype = call->output.dtype();
    const Tensor gated(call->arena, dtype, call->output.shape());
    const Tensor convolved(call->arena, dtype, call->output.shape());
    if (call->keep) call->saved = {gated, convolved};
    const int64_t n = gated.elements(), block = Block(call->form);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      kernels::Multiply(call->inputs[kWrite].data<T>(),
                        call->inputs[kValue].data<T>(), gated.data<T>(), n);
      if (cache != nullptr) {
        cache->Append(gated, Tensor(dtype, gated.shape().WithLast(0)));
      }
      // The bias is a tap of its own.
      ForEachToken(d, [&](int64_t first, int64_t channels) {
        kernels::Multiply(call->inputs[kBias].data<T>(),
                          gated.data<T>() + first, convolved.data<T>() + first,
                          channels);
      });
      // By head, so that all sequences share the transforms of its filter.
      kernels::ParallelFor(call->pool, d.heads, [&](size_t h, int) {
        const MatrixView<const T> filter = HeadFilter<T>(*call, h);
        std::vector<kernels::ConvSequence<T>> sequences;
        for (int64_t b = 0; b < d.batch; ++b) {
          const MatrixView<const T> x =
              cache == nullptr ? gated.Sequence<T>(b, h) : cache->Keys<T>(b, h);
          sequences.push_back({x, convolved.Sequence<T>(b, h)});
        }
        if (call->form != Form::kRecurrent) {
          kernels::CausalFftConv(filter, block, before, sequences);
          return;
        }
        for (const kernels::ConvSequence<T>& s : sequences) {
          for (int64_t t = 0; t < d.length; ++t) {
            kernels::LongConv(s.x.Rows(0, before + t + 1), filter, before + t,
                              s.y.Rows(t, 1));
          }
        }
      });
      kernels::Multiply(call->inputs[kRead].data<T>(), convolved.data<T>(),
                        call->output.data<T>(), n);
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Tensor d_convolved(call.arena, d_output.dtype(), d_output.shape());
    const Tensor d_gated(call.arena, d_output.dtype(), d_output.shape());
    const int64_t n = d_output.elements();
    const int64_t channels = call.dims.heads * call.dims.value_dim;
    const Tensor d_taps(call.arena, d_output.dtype(),
                        {call.dims.length, channels});
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const auto add_product = [&](const Tensor& d, const Tensor& factor,
                                   Input to) {
        if (d_inputs[to].empty()) return;
        kernels::MultiplyAdd(d.data<T>(), factor.data<T>(),
                             d_inputs[to].data<T>(), n);
      };
      add_product(d_output, call.saved[kConvolved], kRead);
      kernels::Multiply(d_output.data<T>(), call.inputs[kRead].data<T>(),
                        d_convolved.data<T>(), n);
      kernels::ParallelFor(call.pool, call.dims.heads, [&](size_t h, int) {
        HeadBackward<T>(call, h, d_convolved, d_gated, d_taps);
      });
      for (const Input to : {kFilter, kBias}) {
        if (d_inputs[to].empty()) continue;
        T* const d = d_inputs[to].data<T>();
        const int64_t taps = to == kFilter ? call.dims.length : 1;
        kernels::Add(d, d_taps.data<T>(), d, taps * channels);
      }
      ForEachToken(call.dims, [&](int64_t first, int64_t count) {
        kernels::MultiplyAdd(call.inputs[kBias].data<T>(),
                             d_convolved.data<T>() + first,
                             d_gated.data<T>() + first, count);
      });
      add_product(d_gated, call.inputs[kValue], kWrite);
      add_product(d_gated, call.inputs[kWrite], kValue);
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    // Every z as a key, and no values.
    return std::make_unique<KeyValueCache>(dtype, d.batch, d.heads, d.value_dim,
                                           /*value_dim=*/0);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.length * d.heads * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    const double channels = static_cast<double>(d.heads) * d.value_dim;
    const size_t block = form == Form::kRecurrent ? d.length : Block(form);
    Cost cost;
    // The convolution, the bias (a product and a sum) and two gates.
    cost.flops =
        channels * (kernels::CausalFftConvFlops(d.length, block, d.batch) +
                    4.0 * d.batch * d.length);
    cost.bytes =
        sizeof(float) * channels * (4.0 * d.batch * d.length + d.length + 1);
    return cost;
  }

  // Two convolutions, and the gradients of the gates and past the bias.
  Cost BackwardCost(const Dims& d, Form form) const override {
    const double channels = static_cast<double>(d.heads) * d.value_dim;
    const size_t block = form == Form::kRecurrent ? d.length : Block(form);
    Cost cost = Operator::BackwardCost(d, form);
    cost.flops =
        channels * (kernels::LongConvGradientFlops(d.length, block, d.batch) +
                    6.0 * d.batch * d.length);
    return cost;
  }

  // A step reads as much of the filter as of the state.
  Cost StepCost(const Dims& d) const override {
    Cost cost = Operator::StepCost(d);
    cost.bytes += sizeof(float) * static_cast<double>(d.heads) * d.value_dim *
                  (d.length + 1.0);
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const double* bias = call.inputs[kBias].data<double>();
    const double* filter = call.inputs[kFilter].data<double>();
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto x0 = call.inputs[kRead].Sequence<double>(b, h);
        const auto x1 = call.inputs[kWrite].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto y = call.output.Sequence<double>(b, h);
        for (int64_t t = 0; t < d.length; ++t) {
          for (int64_t c = 0; c < d.value_dim; ++c) {
            const int64_t channel = h * d.value_dim + c;
            double sum = bias[channel] * x1(t, c) * v(t, c);
            for (int64_t s = 0; s <= t; ++s) {
              sum += filter[(t - s) * d.heads * d.value_dim + channel] *
                     x1(s, c) * v(s, c);
            }
            y(t, c) = x0(t, c) * sum;
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // Rows that are convolved directly.
  int64_t Block(Form form) const {
    return form == Form::kParallel ? std::min(chunk_, kParallelBlock) : chunk_;
  }

  // body(first, channels) for each token's channels in memory.
  template <class Body>
  static void ForEachToken(const Dims& d, const Body& body) {
    const int64_t channels = d.heads * d.value_dim;
    for (int64_t t = 0; t < d.batch * d.length; ++t) {
      body(t * channels, channels);
    }
  }

  // Writes what d_gated is without the bias, and a head's channels of the
  // filter's gradient.
  template <typename T>
  void HeadBackward(const OperatorCall& call, int64_t h,
                    const Tensor& d_convolved, const Tensor& d_gated,
                    const Tensor& d_taps) const {
    const size_t length = call.dims.length, dim = call.dims.value_dim;
    std::vector<kernels::GradientSequence<T>> sequences;
    for (int64_t b = 0; b < call.dims.batch; ++b) {
      sequences.push_back({call.saved[kGated].Sequence<T>(b, h),
                           d_convolved.Sequence<T>(b, h),
                           d_gated.Sequence<T>(b, h)});
    }
    kernels::LongConvGradient(
        HeadFilter<T>(call, h).Rows(0, length),
        call.form == Form::kRecurrent ? length : Block(call.form), sequences,
        {d_taps.data<T>() + h * dim, length, dim, call.dims.heads * dim});
  }

  int64_t chunk_;
};

// The filter as a decoder computed it at its first token. It follows from the
// parameters alone, so it is no memory of the sequence and takes no bytes.
class FilterMemo : public State {
 public:
  using State::State;
  Tensor filter;

  int64_t bytes() const override { return 0; }
  std::string Serialize() const override { return {}; }
  int64_t BytesAfter(int64_t) const override { return 0; }

 private:
  void DoRestore(absl::string_view, int64_t) override {}
};

class HyenaMixer : public Mixer {
 public:
  explicit HyenaMixer(const MixerConfig& config)
      : op_(config.options),
        heads_(config.heads),
        width_(config.width),
        filter_(config, config.options.Int("filter_width"),
                config.options.Real("frequency")),
        bias_(config.parameters->Add(absl::StrCat(config.name, ".bias"),
                                     {heads_, width_ / heads_}, Init::Normal(1),
                                     /*decay=*/false)),
        out_(AddDense(config, "out", width_, width_)),
        out_bias_(AddBias(config, "out_bias", width_, width_)) {
    for (const std::string name : {"x0", "x1", "value"}) {
      paths_.push_back(
          {AddDense(config, name, width_, width_),
           AddBias(config, name + "_bias", width_, width_),
           ShortConv(absl::StrCat(config.name, ".", name, "_conv"), width_,
                     kShortTaps, config.parameters, /*bias=*/true)});
    }
  }

  Variable Forward(const MixerCall& call) const override {
    if (!call.x.valid()) return {};
    Tape* tape = call.x.tape();
    CompositeState* state = call.state;
    const int64_t batch = call.x.shape().dim(0), length = call.x.shape().dim(1);
    const int64_t tokens = length + (state == nullptr ? 0 : state->position());
    if (tokens > filter_.max_length()) {
      return tape->Fail(absl::InvalidArgumentError(
          absl::StrCat("hyena: its filter was made for ", filter_.max_length(),
                       " tokens; a sequence of ", tokens, " is too long")));
    }
    size_t part = 0;
    const auto next_state = [&]() {
      return state == nullptr ? nullptr : state->part(part++);
    };
    std::vector<Variable> inputs;
    for (const Path& path : paths_) {
      Variable x = path.conv.Apply(
          Linear(call.x, tape->Use(*path.weight), tape->Use(*path.bias)),
          next_state());
      inputs.push_back(Reshape(x, {batch, length, heads_, width_ / heads_}));
    }
    State* cache = next_state();
    Variable filter = state == nullptr ? filter_.Rows(tape, length)
                                       : Remembered(tape, next_state());
    if (!filter.valid()) return {};
    inputs.push_back(
        Reshape(filter, {filter.shape().dim(0), heads_, width_ / heads_}));
    inputs.push_back(tape->Use(*bias_));
    Variable y = ApplyOperator(op_, inputs, call.form, cache);
    return Add(call.residual, Linear(Reshape(y, {batch, length, width_}),
                                     tape->Use(*out_), tape->Use(*out_bias_)));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    Dims dims;
    dims.batch = batch;
    dims.heads = heads_;
    dims.value_dim = width_ / heads_;
    auto state = std::make_unique<CompositeState>(dtype, batch);
    for (const Path& path : paths_) {
      state->Add(path.conv.NewState(batch, dtype));
    }
    state->Add(op_.NewState(dims, dtype));
    state->Add(std::make_unique<FilterMemo>(dtype, batch));
    return state;
  }

 private:
  struct Path {  // of x0, x1 or v
    const Parameter *weight, *bias;
    ShortConv conv;
  };

  Variable Remembered(Tape* tape, State* memo) const {
    Tensor& filter = static_cast<FilterMemo*>(memo)->filter;
    if (filter.empty()) {
      Variable rows = filter_.Rows(tape, filter_.max_length());
      if (!rows.valid()) return rows;
      filter = rows.value().Clone();
    }
    return tape->Input(filter);
  }

  HyenaOperator op_;
  int64_t heads_, width_;
  ImplicitFilter filter_;
  std::vector<Path> paths_;
  const Parameter *bias_, *out_, *out_bias_;
};

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  if (config.max_length < 1) {
    return absl::InvalidArgumentError(
        "hyena: its filter needs to know the longest sequence, max_length");
  }
  return std::make_unique<HyenaMixer>(config);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "hyena";
  d.title = "Hyena";
  d.family = "convolution";
  d.paper = "arXiv 2302.10866";
  d.summary = "a filter over all distances, made by a small network, and gates";
  d.tolerance = 5e-7;
  d.options = {
      OptionSpec::Int("filter_width", 64, 1, 4096,
                      "hidden width of the network that makes the filter"),
      OptionSpec::Real(
          "frequency", 1, 0.01, 1000,
          "of that network's sines at first: how wavy a filter is"),
      OptionSpec::Int("chunk", 256, 1, 65536,
                      "tokens a block convolved without a transform in the "
                      "chunked form")};
  d.variations = {{{"chunk", "64"}, {"filter_width", "5"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<HyenaOperator>(options);
     },
     MakeMixer});

}  // namespace
}  // namespace mneme
