// SPDX-License-Identifier: Apache-2.0
//
// Mamba-2 (state space duality, arXiv 2405.21060): a state space model whose
// transition is one number per head, which makes it a linear memory with keys
// b, queries c and values dt x, faded by e^(dt a):
//
//   S_t = e^{dt_t a_h} S_{t-1} + b_t (dt_t x_t)^T,   y_t = S_t^T c_t + d_h x_t.
//
// All heads share b and c. The step size dt both writes and fades: a large step
// stores the token and forgets the past, a small one skips the token. The layer
// puts a convolution and silu on (x, b, c), takes dt = softplus(u W + bias) and
// gates before it normalises: RMSNorm(y * silu(z)) W_o. The published code
// keeps (z, x, b, c, dt) in one matrix; here they are five, which is the same.

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/gate_init.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/short_conv.h"
#include "attention/variant.h"

namespace mneme {
namespace {

enum Input { kX, kB, kC, kStep, kTransition, kSkip };
enum Saved { kValues, kLogDecay, kStates };

// visit(row, i, h) for every token of every head: row is its place in a
// [batch, length, heads] array, i in a [batch, heads, length] one.
template <typename Visit>
void ForEachToken(const Dims& d, const Visit& visit) {
  int64_t row = 0;
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t t = 0; t < d.length; ++t) {
      for (int64_t h = 0; h < d.heads; ++h, ++row) {
        visit(row, (b * d.heads + h) * d.length + t, h);
      }
    }
  }
}

class Mamba2Operator : public Operator {
 public:
  explicit Mamba2Operator(const Options& options)
      : chunk_(options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {
        {"x", "BLHV", "inputs [batch, length, heads, value_dim]"},
        {"b", "BLK", "keys of all heads [batch, length, key_dim]"},
        {"c", "BLK", "queries of all heads [batch, length, key_dim]"},
        {"dt", "BLH", "step sizes [batch, length, heads]", Domain::kPositive},
        {"a", "H", "transitions [heads]; the log decay is dt a",
         Domain::kNonPositive},
        {"d", "H", "weights of x in the output [heads]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    AdditiveHeads a = Recurrence(*call);
    a.value = Tensor(call->arena, call->output.dtype(), call->output.shape());
    a.log_decay =
        Tensor(call->arena, call->output.dtype(),
               {call->dims.batch, call->dims.heads, call->dims.length});
    DispatchDType(call->output.dtype(), [&](auto zero) {
      Discretise<decltype(zero)>(*call, a.value, a.log_decay);
    });
    Tensor states;
    AdditiveHeadsForward(a, call->state, call->output, Tensor(), call->arena,
                         call->keep ? &states : nullptr);
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const int64_t dim = call->dims.value_dim;
      ForEachToken(call->dims, [&](int64_t row, int64_t, int64_t h) {
        kernels::Axpy(call->inputs[kSkip].data<T>()[h],
                      call->inputs[kX].data<T>() + row * dim,
                      call->output.data<T>() + row * dim, dim);
      });
    });
    if (call->keep) call->saved = {a.value, a.log_decay, states};
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    AdditiveHeads a = Recurrence(call);
    a.value = call.saved[kValues];
    a.log_decay = call.saved[kLogDecay];
    Tensor d_value(call.arena, d_output.dtype(), a.value.shape());
    Tensor d_log_decay(call.arena, d_output.dtype(), a.log_decay.shape());
    d_value.FillZero();
    d_log_decay.FillZero();
    AdditiveHeadsBackward(a, call.saved[kStates], d_output, Tensor(),
                          OneHead(d_inputs[kC]), OneHead(d_inputs[kB]), d_value,
                          d_log_decay);
    DispatchDType(d_output.dtype(), [&](auto zero) {
      DiscretiseBackward<decltype(zero)>(call, d_output, d_value, d_log_decay,
                                         d_inputs);
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& dims,
                                  DType dtype) const override {
    return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/false, dtype);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    Cost cost = AdditiveHeadsCost(d, d.key_dim, ChunkOf(form, d.length, chunk_),
                                  true, false);
    const double tokens = static_cast<double>(d.batch) * d.length;
    // dt x, dt a and d x; queries and keys are read once for all heads.
    cost.flops += tokens * d.heads * (3.0 * d.value_dim + 1);
    cost.bytes -= sizeof(float) * tokens * (d.heads - 1) * 2 * d.key_dim;
    cost.bytes += sizeof(float) * tokens * d.heads;
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const double* step = call.inputs[kStep].data<double>();
    for (int64_t b = 0; b < d.batch; ++b) {
      const auto keys = OneHead(call.inputs[kB]).Sequence<double>(b, 0);
      const auto queries = OneHead(call.inputs[kC]).Sequence<double>(b, 0);
      for (int64_t h = 0; h < d.heads; ++h) {
        const double a = call.inputs[kTransition].data<double>()[h];
        const double skip = call.inputs[kSkip].data<double>()[h];
        const auto x = call.inputs[kX].Sequence<double>(b, h);
        const auto y = call.output.Sequence<double>(b, h);
        std::vector<double> state(d.key_dim * d.value_dim);
        for (int64_t t = 0; t < d.length; ++t) {
          const double dt = step[(b * d.length + t) * d.heads + h];
          for (int64_t c = 0; c < d.value_dim; ++c) {
            y(t, c) = skip * x(t, c);
            for (int64_t n = 0; n < d.key_dim; ++n) {
              double& s = state[n * d.value_dim + c];
              s = std::exp(dt * a) * s + dt * keys(t, n) * x(t, c);
              y(t, c) += queries(t, n) * s;
            }
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  // [batch, length, key_dim] as [batch, length, 1, key_dim].
  static Tensor OneHead(const Tensor& x) {
    return x.empty() ? x : x.Reshaped({x.dim(0), x.dim(1), 1, x.dim(2)});
  }

  AdditiveHeads Recurrence(const OperatorCall& call) const {
    AdditiveHeads a;
    a.query = OneHead(call.inputs[kC]);
    a.key = OneHead(call.inputs[kB]);
    a.chunk = ChunkOf(call.form, call.dims.length, chunk_);
    a.pool = call.pool;
    return a;
  }

  // value = dt x, log_decay = dt a.
  template <typename T>
  static void Discretise(const OperatorCall& call, Tensor value,
                         const Tensor& log_decay) {
    const int64_t dim = call.dims.value_dim;
    const T* step = call.inputs[kStep].data<T>();
    const T* transition = call.inputs[kTransition].data<T>();
    value.FillZero();
    ForEachToken(call.dims, [&](int64_t row, int64_t i, int64_t h) {
      log_decay.data<T>()[i] = step[row] * transition[h];
      kernels::Axpy(step[row], call.inputs[kX].data<T>() + row * dim,
                    value.data<T>() + row * dim, dim);
    });
  }

  template <typename T>
  static void DiscretiseBackward(const OperatorCall& call,
                                 const Tensor& d_output, const Tensor& d_value,
                                 const Tensor& d_log_decay,
                                 absl::Span<const Tensor> d_inputs) {
    const int64_t dim = call.dims.value_dim;
    const T* step = call.inputs[kStep].data<T>();
    const T* transition = call.inputs[kTransition].data<T>();
    const T* skip = call.inputs[kSkip].data<T>();
    const auto wanted = [&](Input i) {
      return d_inputs[i].empty() ? nullptr : d_inputs[i].data<T>();
    };
    T *d_x = wanted(kX), *d_step = wanted(kStep),
      *d_transition = wanted(kTransition), *d_skip = wanted(kSkip);
    ForEachToken(call.dims, [&](int64_t row, int64_t i, int64_t h) {
      const T* x = call.inputs[kX].data<T>() + row * dim;
      const T* d_y = d_output.data<T>() + row * dim;
      const T* d_v = d_value.data<T>() + row * dim;
      const T d_g = d_log_decay.data<T>()[i];
      if (d_x != nullptr) {
        kernels::Axpy(step[row], d_v, d_x + row * dim, dim);
        kernels::Axpy(skip[h], d_y, d_x + row * dim, dim);
      }
      if (d_step != nullptr) {
        d_step[row] += kernels::Dot(d_v, x, dim) + transition[h] * d_g;
      }
      if (d_transition != nullptr) d_transition[h] += step[row] * d_g;
      if (d_skip != nullptr) d_skip[h] += kernels::Dot(d_y, x, dim);
    });
  }

  int64_t chunk_;
};

class Mamba2Mixer : public Mixer {
 public:
  Mamba2Mixer(const MixerConfig& config, int64_t value_dim)
      : op_(config.options),
        heads_(config.heads),
        key_dim_(config.options.Int("state_dim")),
        value_dim_(value_dim) {
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

  Variable Forward(const MixerCall& call) const override {
    using kernels::Unary;
    Variable u = call.x;
    if (!u.valid()) return u;
    Tape* tape = u.tape();
    const int64_t batch = u.shape().dim(0), length = u.shape().dim(1);
    const auto part = [&](size_t i) {
      return call.state == nullptr ? nullptr : call.state->part(i);
    };
    std::vector<Variable> inputs;
    for (const Path& path : paths_) {
      Variable y = Linear(u, tape->Use(*path.weight));
      inputs.push_back(
          Map(Unary::kSilu, path.conv.Apply(y, part(inputs.size()))));
    }
    inputs[kX] = Reshape(inputs[kX], {batch, length, heads_, value_dim_});
    inputs.push_back(Map(Unary::kSoftplus,
                         Linear(u, tape->Use(*step_), tape->Use(*step_bias_))));
    inputs.push_back(Scale(Map(Unary::kExp, tape->Use(*log_transition_)), -1));
    inputs.push_back(tape->Use(*skip_));
    Variable y = ApplyOperator(op_, inputs, call.form, part(paths_.size()));
    y = Reshape(y, {batch, length, heads_ * value_dim_});
    y = SiluGate(y, Linear(u, tape->Use(*gate_)));
    y = Norm(kernels::NormKind::kRms, y, tape->Use(*gain_), {}, 1e-5);
    return LinearResidual(call.residual, y, tape->Use(*out_));
  }

  std::unique_ptr<CompositeState> NewState(int64_t batch,
                                           DType dtype) const override {
    auto state = std::make_unique<CompositeState>(dtype, batch);
    for (const Path& path : paths_) {
      state->Add(path.conv.NewState(batch, dtype));
    }
    Dims dims;
    dims.batch = batch;
    dims.heads = heads_;
    dims.key_dim = key_dim_;
    dims.value_dim = value_dim_;
    state->Add(op_.NewState(dims, dtype));
    return state;
  }

 private:
  struct Path {  // one of x, b, c
    const Parameter* weight;
    ShortConv conv;
  };

  Mamba2Operator op_;
  int64_t heads_, key_dim_, value_dim_;
  std::vector<Path> paths_;
  const Parameter *gate_, *step_, *step_bias_, *log_transition_, *skip_, *gain_,
      *out_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "mamba2";
  d.title = "Mamba-2";
  d.family = "additive recurrence";
  d.paper = "arXiv 2405.21060";
  d.version = 2;
  d.summary = "state space duality: one step size a token writes and forgets";
  d.tolerance = 1e-5;
  d.options = {
      OptionSpec::Int("expand", 2, 1, 8,
                      "inner width in multiples of the model's"),
      OptionSpec::Int("state_dim", 128, 1, 1024,
                      "numbers a channel remembers (key width)"),
      OptionSpec::Int("conv", 4, 2, 8, "taps of the short convolution"),
      OptionSpec::Int("chunk", 64, 1, 4096,
                      "tokens a block in the chunked form")};
  d.variations = {{{"state_dim", "5"}, {"expand", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<Mamba2Operator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<Mamba2Mixer>(
           config, config.options.Int("expand") * config.width / config.heads);
     }});

}  // namespace
}  // namespace mneme
