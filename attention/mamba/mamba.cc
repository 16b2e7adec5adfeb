// SPDX-License-Identifier: Apache-2.0
//
// Mamba (S6, arXiv 2312.00752): a state space model whose step size, input and
// output weights depend on the token. Every channel has a state of N numbers,
//
//   h_t[n] = e^{dt_t a[n]} h_{t-1}[n] + dt_t b_t[n] x_t,
//   y_t    = sum_n c_t[n] h_t[n] + d x_t,
//
// with b and c shared by all channels, and dt, a and d each channel's own: its
// N rates make it a scan and not a matrix product. (b is discretised by Euler's
// rule, as in the published code, not by the zero-order hold of the paper's
// text.) The channels of the operator are heads times value_dim.
//
// The layer: x = silu(conv(u W_x)); dt = softplus(x W_r W_dt + bias), b = x
// W_b, c = x W_c; (y * silu(u W_z)) W_o. The published code keeps W_x and W_z,
// and W_r, W_b and W_c, in one matrix each, which is the same.

#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/parallel.h"
#include "attention/kernels/selective_scan.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/gate_init.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/short_conv.h"
#include "attention/variant.h"

namespace mneme {
namespace {

enum Input { kX, kStep, kTransition, kB, kC, kSkip };

// Of a sequence that one thread scans at a time. The backward pays for sums
// over channels once a part.
constexpr int64_t kChannelsAPart = 128;
constexpr int64_t kBackwardChannelsAPart = 256;

int64_t PartsOf(int64_t channels, int64_t channels_a_part) {
  return (channels + channels_a_part - 1) / channels_a_part;
}

// Sequence b of a [batch, length, ...] array as a [length, n] matrix.
template <typename T>
kernels::MatrixView<T> SequenceOf(const Tensor& x, int64_t b) {
  if (x.empty()) return {};
  const size_t length = x.dim(1);
  const size_t width = x.elements() / (x.dim(0) * x.dim(1));
  return {x.data<T>() + b * length * width, length, width};
}

// Entries [at, at + n) of `to`, if anybody wants them, += from.
template <typename T>
void AddTo(const T* from, int64_t n, const Tensor& to, int64_t at) {
  if (!to.empty()) kernels::Axpy(T{1}, from, to.data<T>() + at, n);
}

class MambaOperator : public Operator {
 public:
  explicit MambaOperator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"x", "BLHV", "inputs [batch, length, heads, value_dim]"},
            {"dt", "BLHV", "step sizes [batch, length, heads, value_dim]",
             Domain::kPositive},
            {"a", "HVK", "transitions [heads, value_dim, key_dim]",
             Domain::kNonPositive},
            {"b", "BLK", "input weights [batch, length, key_dim]"},
            {"c", "BLK", "output weights [batch, length, key_dim]"},
            {"d", "HV", "weights of x in the output [heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    const int64_t size = StateSize(d);
    const DType dtype = call->output.dtype();
    Tensor saved;
    if (call->keep) {
      saved = Tensor(call->arena, dtype, {d.batch, SavedSize(*call)});
      call->saved = {saved};
    }
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      T* const states = call->state == nullptr
                            ? nullptr
                            : static_cast<DenseState*>(call->state)
                                  ->tensor()
                                  .template data<T>();
      // Channels do not meet.
      const int64_t parts = PartsOf(d.heads * d.value_dim, kChannelsAPart);
      kernels::ParallelFor(call->pool, d.batch * parts, [&](size_t i, int) {
        const int64_t b = i / parts, part = i % parts;
        kernels::SelectiveScan<T> sequence = OneSequence<T>(*call, b);
        sequence.begin = part * kChannelsAPart;
        sequence.end = sequence.begin + kChannelsAPart;
        kernels::SelectiveScanForward(
            sequence, states == nullptr ? nullptr : states + b * size,
            SequenceOf<T>(call->output, b),
            call->keep ? saved.data<T>() + b * saved.dim(1) : nullptr);
      });
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Dims& d = call.dims;
    const int64_t size = StateSize(d), channels = d.heads * d.value_dim;
    const int64_t parts = PartsOf(channels, kBackwardChannelsAPart);
    const Tensor& saved = call.saved[0];
    const DType dtype = d_output.dtype();
    // Sequences share a and d, and the parts of one its b and c: each gets its
    // own sums, which are then added.
    Tensor d_a(call.arena, dtype, {d.batch, size});
    Tensor d_skip(call.arena, dtype, {d.batch, channels});
    d_a.FillZero();
    d_skip.FillZero();
    const auto of_parts = [&](Input input) {
      if (parts == 1 || d_inputs[input].empty()) return d_inputs[input];
      Tensor sums(call.arena, dtype, {d.batch * parts, d.length, d.key_dim});
      sums.FillZero();
      return sums;
    };
    const Tensor d_b = of_parts(kB), d_c = of_parts(kC);
    DispatchDType(dtype, [&](auto zero) {
      using T = decltype(zero);
      kernels::ParallelFor(call.pool, d.batch * parts, [&](size_t i, int) {
        const int64_t b = i / parts, part = i % parts;
        kernels::SelectiveScan<T> sequence = OneSequence<T>(call, b);
        sequence.begin = part * kBackwardChannelsAPart;
        sequence.end = sequence.begin + kBackwardChannelsAPart;
        kernels::SelectiveScanGradients<T> gradients;
        gradients.d_x = SequenceOf<T>(d_inputs[kX], b);
        gradients.d_dt = SequenceOf<T>(d_inputs[kStep], b);
        gradients.d_a = {d_a.data<T>() + b * size,
                         static_cast<size_t>(channels),
                         static_cast<size_t>(d.key_dim)};
        gradients.d_b = SequenceOf<T>(d_b, i);
        gradients.d_c = SequenceOf<T>(d_c, i);
        gradients.d_d = d_skip.data<T>() + b * channels;
        kernels::SelectiveScanBackward(
            sequence, saved.data<T>() + b * saved.dim(1),
            SequenceOf<T>(d_output, b), /*d_state=*/nullptr, gradients);
      });
      for (int64_t b = 0; b < d.batch; ++b) {
        AddTo(d_a.data<T>() + b * size, size, d_inputs[kTransition], 0);
        AddTo(d_skip.data<T>() + b * channels, channels, d_inputs[kSkip], 0);
      }
      if (parts == 1) return;
      const int64_t outputs = d.length * d.key_dim;
      for (int64_t i = 0; i < d.batch * parts; ++i) {
        const int64_t at = i / parts * outputs;
        if (!d_b.empty()) {
          AddTo(d_b.data<T>() + i * outputs, outputs, d_inputs[kB], at);
        }
        if (!d_c.empty()) {
          AddTo(d_c.data<T>() + i * outputs, outputs, d_inputs[kC], at);
        }
      }
    });
    return absl::OkStatus();
  }

  // Without decay and skip it is the linear memory.
  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override {
    return NeutralInputs(Inputs(), {{"c", queries}, {"b", keys}, {"x", values}},
                         {{"d", 0}});
  }

  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override {
    return std::make_unique<DenseState>(dtype, Shape({d.batch, StateSize(d)}));
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * StateSize(d);
  }

  Cost ForwardCost(const Dims& d, Form) const override {
    const double tokens = static_cast<double>(d.batch) * d.length;
    const double channels = d.heads * d.value_dim;
    Cost cost;
    cost.flops = tokens * channels * (6.0 * d.key_dim + 3);
    cost.exps = tokens * channels * d.key_dim;
    cost.bytes = sizeof(float) * (tokens * (3 * channels + 2.0 * d.key_dim) +
                                  (d.batch * 2 + 1) * channels * d.key_dim);
    return cost;
  }

  bool StepRewritesState() const override { return true; }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const auto at = [&](Input i, int64_t index) {
      return call.inputs[i].data<double>()[index];
    };
    const int64_t channels = d.heads * d.value_dim;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t e = 0; e < channels; ++e) {
        std::vector<double> h(d.key_dim);
        for (int64_t t = 0; t < d.length; ++t) {
          const int64_t token = b * d.length + t;
          const double x = at(kX, token * channels + e);
          const double dt = at(kStep, token * channels + e);
          double y = at(kSkip, e) * x;
          for (int64_t n = 0; n < d.key_dim; ++n) {
            h[n] = std::exp(dt * at(kTransition, e * d.key_dim + n)) * h[n] +
                   dt * at(kB, token * d.key_dim + n) * x;
            y += at(kC, token * d.key_dim + n) * h[n];
          }
          call.output.data<double>()[token * channels + e] = y;
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  static int64_t StateSize(const Dims& d) {
    return d.heads * d.value_dim * d.key_dim;
  }

  int64_t SavedSize(const OperatorCall& call) const {
    const Dims& d = call.dims;
    return kernels::SelectiveScanSavedSize(d.length,
                                           ChunkOf(call.form, d.length, chunk_),
                                           d.key_dim, d.heads * d.value_dim);
  }

  template <typename T>
  kernels::SelectiveScan<T> OneSequence(const OperatorCall& call,
                                        int64_t b) const {
    kernels::SelectiveScan<T> s;
    s.x = SequenceOf<T>(call.inputs[kX], b);
    s.dt = SequenceOf<T>(call.inputs[kStep], b);
    s.a = {call.inputs[kTransition].data<T>(),
           static_cast<size_t>(call.dims.heads * call.dims.value_dim),
           static_cast<size_t>(call.dims.key_dim)};
    s.b = SequenceOf<T>(call.inputs[kB], b);
    s.c = SequenceOf<T>(call.inputs[kC], b);
    s.d = call.inputs[kSkip].data<T>();
    s.chunk = ChunkOf(call.form, call.dims.length, chunk_);
    return s;
  }

  int64_t chunk_;
};

class MambaMixer : public Mixer {
 public:
  explicit MambaMixer(const MixerConfig& config)
      : op_(config.options),
        channels_(config.options.Int("expand") * config.width),
        state_dim_(config.options.Int("state_dim")),
        conv_(absl::StrCat(config.name, ".x_conv"), channels_,
              config.options.Int("conv"), config.parameters, /*bias=*/true) {
    const int64_t rank = (config.width + 15) / 16;
    const auto name = [&](const char* part) {
      return absl::StrCat(config.name, ".", part);
    };
    x_ = AddDense(config, "x", config.width, channels_);
    gate_ = AddDense(config, "z", config.width, channels_);
    step_down_ = AddDense(config, "dt_down", channels_, rank);
    step_up_ = AddDense(config, "dt_up", rank, channels_);
    step_bias_ = AddStepBias(name("dt_bias"), channels_, config.parameters);
    b_ = AddDense(config, "b", channels_, state_dim_);
    c_ = AddDense(config, "c", channels_, state_dim_);
    // Rates 1, 2, ..., N in every channel.
    std::vector<double> log_rates;
    for (int64_t e = 0; e < channels_; ++e) {
      for (int64_t n = 1; n <= state_dim_; ++n)
        log_rates.push_back(std::log(n));
    }
    log_transition_ =
        config.parameters->Add(name("a_log"), {1, channels_, state_dim_},
                               Init::Values(log_rates), /*decay=*/false);
    skip_ = config.parameters->Add(name("d"), {1, channels_}, Init::Constant(1),
                                   /*decay=*/false);
    out_ = AddDense(config, "out", channels_, config.width);
  }

  Variable Forward(const MixerCall& call) const override {
    using kernels::Unary;
    Variable u = call.x;
    if (!u.valid()) return u;
    Tape* tape = u.tape();
    const auto part = [&](size_t i) {
      return call.state == nullptr ? nullptr : call.state->part(i);
    };
    const Shape shape({u.shape().dim(0), u.shape().dim(1), channels_});
    const Shape one_head({shape.dim(0), shape.dim(1), 1, channels_});
    Variable x =
        Map(Unary::kSilu, conv_.Apply(Linear(u, tape->Use(*x_)), part(0)));
    Variable step = Map(Unary::kSoftplus,
                        Linear(Linear(x, tape->Use(*step_down_)),
                               tape->Use(*step_up_), tape->Use(*step_bias_)));
    Variable y =
        ApplyOperator(op_,
                      {Reshape(x, one_head), Reshape(step, one_head),
                       Scale(Map(Unary::kExp, tape->Use(*log_transition_)), -1),
                       Linear(x, tape->Use(*b_)), Linear(x, tape->Use(*c_)),
                       tape->Use(*skip_)},
                      call.form, part(1));
    y = SiluGate(Reshape(y, shape), Linear(u, tape->Use(*gate_)));
    return LinearResidual(call.residual, y, tape->Use(*out_));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    state->Add(conv_.NewState(batch, dtype));
    Dims dims;
    dims.batch = batch;
    dims.key_dim = state_dim_;
    dims.value_dim = channels_;
    state->Add(op_.NewState(dims, dtype));
    return state;
  }

 private:
  MambaOperator op_;
  int64_t channels_, state_dim_;
  ShortConv conv_;
  const Parameter *x_, *gate_, *step_down_, *step_up_, *step_bias_, *b_, *c_,
      *log_transition_, *skip_, *out_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "mamba";
  d.title = "Mamba";
  d.family = "additive recurrence";
  d.paper = "arXiv 2312.00752";
  d.version = 2;
  d.summary = "selective state space: a scan with per-channel, per-token steps";
  d.tolerance = 6e-7;  // measured 4.2e-7
  d.options = {
      OptionSpec::Int("expand", 2, 1, 8, "channels in multiples of the width"),
      OptionSpec::Int("state_dim", 16, 1, 1024, "numbers a channel remembers"),
      OptionSpec::Int("conv", 4, 2, 8, "taps of the short convolution"),
      OptionSpec::Int("chunk", 32, 1, 4096,
                      "tokens between states kept for the backward")};
  d.variations = {{{"state_dim", "5"}, {"expand", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<MambaOperator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<MambaMixer>(config);
     }});

}  // namespace
}  // namespace mneme
