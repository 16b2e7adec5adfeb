// SPDX-License-Identifier: Apache-2.0
//
// Mamba-2 (state space duality, arXiv 2405.21060): a state space model whose
// transition is one number per head, which makes it a linear memory with keys
// b, queries c and values x, written with strength dt and faded by e^(dt a):
//
//   S_t = e^{dt_t a_h} S_{t-1} + dt_t b_t x_t^T,   y_t = S_t^T c_t + d_h x_t.
//
// All heads share b and c. The step size dt both writes and fades: a large step
// stores the token and forgets the past, a small one skips the token. The layer
// around it is parts/ssd_mixer.h.

#include <cmath>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/one_token.h"
#include "attention/parts/ssd_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

enum Input { kX, kB, kC, kStep, kTransition, kSkip };

// visit(row, i, h) for every token of every head: row is its place in a
// [batch, length, heads] array, i in a [batch, heads, length] one.
template <typename Visit>
void ForEachToken(const Dims& d, const Visit& visit) {
  int64_t row = 0;
  for (int64_t b = 0; b < d.batch; ++b) {
    for (int64_t t = 0; t < d.length; ++t) {
      for (int64_t h = 0; h < d.heads; ++h) {
        visit(row++, (b * d.heads + h) * d.length + t, h);
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
    if (TakesOneToken(*call)) {
      DispatchDType(call->output.dtype(),
                    [&](auto zero) { Step<decltype(zero)>(*call); });
      return absl::OkStatus();
    }
    Tensor states;
    AdditiveHeadsForward(Recurrence(*call), call->state, call->output, Tensor(),
                         call->arena, call->keep ? &states : nullptr);
    if (call->keep) call->saved = {states};
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const AdditiveHeads a = Recurrence(call);
    AdditiveHeadsGradients gradients;
    gradients.query = OneHead(d_inputs[kC]);
    gradients.key = OneHead(d_inputs[kB]);
    gradients.value = d_inputs[kX];
    const auto zeros = [&](const Shape& shape) {
      Tensor t(call.arena, d_output.dtype(), shape);
      t.FillZero();
      return t;
    };
    gradients.log_decay = zeros(a.log_decay.shape());
    gradients.strength = zeros(a.strength.shape());
    gradients.skip = zeros({call.dims.batch, call.dims.heads});
    AdditiveHeadsBackward(a, call.saved[0], d_output, Tensor(), gradients);
    DispatchDType(d_output.dtype(), [&](auto zero) {
      DiscretiseBackward<decltype(zero)>(call, gradients, d_inputs);
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

  std::unique_ptr<State> NewState(const Dims& dims,
                                  DType dtype) const override {
    return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/false, dtype);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    const int64_t chunk = ChunkOf(form, d.length, chunk_);
    Cost cost = AdditiveHeadsCost(d, d.key_dim, chunk, true, false);
    const double tokens = static_cast<double>(d.batch) * d.length;
    // dt b, dt a and d x, which in a chunk is d more for a score; queries and
    // keys are read once for all heads.
    cost.flops += tokens * d.heads *
                  (d.key_dim + 1 + (chunk == 1 ? 2.0 * d.value_dim : 1));
    cost.bytes -= sizeof(float) * tokens * (d.heads - 1) * 2 * d.key_dim;
    cost.bytes += sizeof(float) * (tokens + 2) * d.heads;  // dt, a and d
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    Cost cost = Operator::BackwardCost(d, form);
    cost.flops +=
        CausalScoresFlops(d, d.key_dim, ChunkOf(form, d.length, chunk_));
    return cost;
  }
  bool StepRewritesState() const override { return true; }

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

  // Without the numbers that step sizes make.
  AdditiveHeads Memory(const OperatorCall& call) const {
    AdditiveHeads a;
    a.query = OneHead(call.inputs[kC]);
    a.key = OneHead(call.inputs[kB]);
    a.value = call.inputs[kX];
    a.skip = call.inputs[kSkip];
    a.chunk = ChunkOf(call.form, call.dims.length, chunk_);
    a.pool = call.pool;
    return a;
  }

  AdditiveHeads Recurrence(const OperatorCall& call) const {
    AdditiveHeads a = Memory(call);
    DispatchDType(call.output.dtype(),
                  [&](auto zero) { Discretise<decltype(zero)>(call, &a); });
    return a;
  }

  // One token, without arrays for what is made of its step sizes.
  template <typename T>
  void Step(const OperatorCall& call) const {
    const Dims& d = call.dims;
    const T* const step = call.inputs[kStep].data<T>();
    const T* const transition = call.inputs[kTransition].data<T>();
    absl::InlinedVector<T, 16> log_decay(d.batch * d.heads);
    for (size_t i = 0; i < log_decay.size(); ++i) {
      log_decay[i] = step[i] * transition[i % d.heads];
    }
    AdditiveHeadsStep<T>(Memory(call),
                         {log_decay.data(), step, call.inputs[kSkip].data<T>()},
                         call.state, call.output);
  }

  // strength = dt, log_decay = dt a.
  template <typename T>
  static void Discretise(const OperatorCall& call, AdditiveHeads* a) {
    const Dims& d = call.dims;
    const DType dtype = call.output.dtype();
    for (Tensor* t : {&a->strength, &a->log_decay}) {
      *t = Tensor(call.arena, dtype, {d.batch, d.heads, d.length});
    }
    const T* step = call.inputs[kStep].data<T>();
    const T* transition = call.inputs[kTransition].data<T>();
    T *strength = a->strength.data<T>(), *log_decay = a->log_decay.data<T>();
    ForEachToken(d, [&](int64_t row, int64_t i, int64_t h) {
      strength[i] = step[row];
      log_decay[i] = step[row] * transition[h];
    });
  }

  template <typename T>
  static void DiscretiseBackward(const OperatorCall& call,
                                 const AdditiveHeadsGradients& gradients,
                                 absl::Span<const Tensor> d_inputs) {
    const T* step = call.inputs[kStep].data<T>();
    const T* transition = call.inputs[kTransition].data<T>();
    const T* d_strength = gradients.strength.data<T>();
    const T* d_log_decay = gradients.log_decay.data<T>();
    const auto wanted = [&](Input i) {
      return d_inputs[i].empty() ? nullptr : d_inputs[i].data<T>();
    };
    T *d_step = wanted(kStep), *d_transition = wanted(kTransition),
      *d_skip = wanted(kSkip);
    ForEachToken(call.dims, [&](int64_t row, int64_t i, int64_t h) {
      const T d_g = d_log_decay[i];
      if (d_step != nullptr) d_step[row] += d_strength[i] + transition[h] * d_g;
      if (d_transition != nullptr) d_transition[h] += step[row] * d_g;
    });
    for (int64_t i = 0; d_skip != nullptr && i < gradients.skip.elements();
         ++i) {
      d_skip[i % call.dims.heads] += gradients.skip.data<T>()[i];
    }
  }

  int64_t chunk_;
};

class Mamba2Mixer : public SsdMixer {
 public:
  explicit Mamba2Mixer(const MixerConfig& config)
      : SsdMixer(config), op_(config.options) {}

 protected:
  Variable Recur(const MixerCall& call, const Inputs& in,
                 State* state) const override {
    return ApplyOperator(op_, {in.x, in.b, in.c, in.dt, in.a, in.d}, call.form,
                         state);
  }
  std::unique_ptr<State> NewMemory(const Dims& dims,
                                   DType dtype) const override {
    return op_.NewState(dims, dtype);
  }

 private:
  Mamba2Operator op_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "mamba2";
  d.title = "Mamba-2";
  d.family = "additive recurrence";
  d.paper = "arXiv 2405.21060";
  d.version = 2;
  d.summary = "state space duality: one step size a token writes and forgets";
  d.tolerance = 6e-7;  // measured 2.8e-7
  d.options = SsdMixerOptions();
  d.options.push_back(OptionSpec::Int("chunk", 64, 1, 4096,
                                      "tokens a block in the chunked form"));
  d.variations = {{{"state_dim", "5"}, {"expand", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<Mamba2Operator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<Mamba2Mixer>(config);
     }});

}  // namespace
}  // namespace mneme
