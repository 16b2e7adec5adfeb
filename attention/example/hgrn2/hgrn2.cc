// SPDX-License-Identifier: Apache-2.0
//
// HGRN2, a gated linear recurrence with state expansion (arXiv 2404.07904): a
// linear memory whose forget gate is its key as well. What fades in a dimension
// makes room for what is written there,
//
//   S_t = diag(f_t) S_{t-1} + (1 - f_t) i_t^T,   o_t = S_t^T q_t,
//   q_t = silu(x_t W_q),   i_t = x_t W_i,
//   f_t = b + (1 - b) sigmoid(x_t W_f),
//
// so that every entry of S is a weighted mean of inputs. A layer keeps at least
// its lower bound b of what it holds; b is 0 in the first layer and rises with
// depth. The output is normalised over all heads together (RMS) and projected:
// norm(o) W_o.
//
// The paper learns all layers' bounds together, as the running sum of a softmax
// over layers; here they stay where that starts, at b = l / n in layer
// l = 0, 1, ... of n. Heads are the model's rather than 128 wide.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/vector_decay_operator.h"
#include "attention/variant.h"

namespace mneme {
namespace {

enum Input { kQuery, kForget, kInput };

// 1 - e^g: what is written to a dimension of which e^g is kept.
Tensor Keys(const Tensor& log_forget, Arena* arena) {
  Tensor keys(arena, log_forget.dtype(), log_forget.shape());
  DispatchDType(keys.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* k = keys.data<T>();
    kernels::Map(kernels::Unary::kExp, log_forget.data<T>(), k,
                 keys.elements());
    for (int64_t i = 0; i < keys.elements(); ++i) k[i] = 1 - k[i];
  });
  return keys;
}

// Mneme's memory with a decay for each key dimension does the work; what is
// HGRN2's own is that its keys follow from its decays.
class Hgrn2Operator : public Operator {
 public:
  explicit Hgrn2Operator(const Options& options)
      : memory_(UnscaledRule(), options.Int("chunk")) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"g", "BLHK", "log forget gates [batch, length, heads, key_dim]",
             Domain::kNonPositive},
            {"i", "BLHV", "inputs [batch, length, heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Tensor keys = Keys(call->inputs[kForget], call->arena);
    const std::vector<Tensor> inputs = MemoryInputs(*call, keys);
    OperatorCall memory = *call;
    memory.inputs = inputs;
    absl::Status status = memory_.Forward(&memory);
    if (call->keep) {
      call->saved = memory.saved;
      call->saved.push_back(keys);
    }
    return status;
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    const Tensor& keys = call.saved.back();
    const Tensor& d_forget = d_inputs[kForget];
    const std::vector<Tensor> inputs = MemoryInputs(call, keys);
    OperatorCall memory = call;
    memory.inputs = inputs;
    Tensor d_keys;  // unwanted unless the gates' gradient is wanted
    if (!d_forget.empty()) {
      d_keys = Tensor(call.arena, keys.dtype(), keys.shape());
      d_keys.FillZero();
    }
    absl::Status status = memory_.Backward(
        memory, d_output,
        {d_inputs[kQuery], d_keys, d_inputs[kInput], d_forget});
    if (!status.ok() || d_forget.empty()) return status;
    DispatchDType(keys.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const T *k = keys.data<T>(), *d_k = d_keys.data<T>();
      T* d_g = d_forget.data<T>();
      // dk / dg = -e^g = k - 1.
      for (int64_t i = 0; i < keys.elements(); ++i)
        d_g[i] += d_k[i] * (k[i] - 1);
    });
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& dims,
                                  DType dtype) const override {
    return memory_.NewState(dims, dtype);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    const double gates =
        static_cast<double>(d.batch) * d.length * d.heads * d.key_dim;
    Cost cost = memory_.ForwardCost(d, form);
    cost.flops += gates;
    cost.exps += gates;
    cost.bytes -= sizeof(float) * gates;  // keys are no input
    return cost;
  }

  Cost BackwardCost(const Dims& d, Form form) const override {
    const double gates =
        static_cast<double>(d.batch) * d.length * d.heads * d.key_dim;
    Cost cost = memory_.BackwardCost(d, form);
    cost.flops += 2 * gates;
    cost.exps += gates;
    cost.bytes -= 2 * sizeof(float) * gates;
    return cost;
  }
  bool StepRewritesState() const override { return true; }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto g = call.inputs[kForget].Sequence<double>(b, h);
        const auto input = call.inputs[kInput].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        for (int64_t c = 0; c < d.value_dim; ++c) {
          std::vector<double> column(d.key_dim);  // of S
          for (int64_t t = 0; t < d.length; ++t) {
            o(t, c) = 0;
            for (int64_t n = 0; n < d.key_dim; ++n) {
              const double f = std::exp(g(t, n));
              column[n] = f * column[n] + (1 - f) * input(t, c);
              o(t, c) += column[n] * q(t, n);
            }
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  static VectorDecayOperator::Rule UnscaledRule() {
    VectorDecayOperator::Rule rule;
    rule.scaled = false;
    return rule;
  }

  // q, k, v and g of the memory.
  static std::vector<Tensor> MemoryInputs(const OperatorCall& call,
                                          const Tensor& keys) {
    return {call.inputs[kQuery], keys, call.inputs[kInput],
            call.inputs[kForget]};
  }

  VectorDecayOperator memory_;
};

class Hgrn2Mixer : public QkvMixer {
 public:
  Hgrn2Mixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<Hgrn2Operator>(config.options),
                 layout),
        lower_bound_(static_cast<double>(config.layer) / config.layers),
        gain_(config.parameters->Add(absl::StrCat(config.name, ".norm"),
                                     {config.width}, Init::Constant(1),
                                     /*decay=*/false)) {}

 protected:
  // The second of the three projections makes the gates.
  void Prepare(const MixerCall&, int64_t,
               std::vector<Variable>* inputs) const override {
    (*inputs)[kQuery] = Map(kernels::Unary::kSilu, (*inputs)[kQuery]);
    (*inputs)[kForget] = LogForget((*inputs)[kForget]);
  }

  Variable Finish(const MixerCall& call, const std::vector<Variable>&,
                  Variable o) const override {
    constexpr double kEps = 1e-5;
    if (!o.valid()) return o;
    Variable flat = Reshape(o, call.x.shape());
    Variable normed =
        Norm(kernels::NormKind::kRms, flat, o.tape()->Use(*gain_), {}, kEps);
    return Reshape(normed, o.shape());
  }

 private:
  // log(b + (1 - b) sigmoid(x)) = log sigmoid(x) + softplus(log b - x), in
  // which nothing overflows.
  Variable LogForget(Variable x) const {
    Variable open = Map(kernels::Unary::kLogSigmoid, x);
    if (lower_bound_ == 0 || !open.valid()) return open;
    Tensor log_bound = x.tape()->New(x.shape());
    DispatchDType(log_bound.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* b = log_bound.data<T>();
      std::fill(b, b + log_bound.elements(),
                static_cast<T>(std::log(lower_bound_)));
    });
    return Add(open, Map(kernels::Unary::kSoftplus,
                         Add(x.tape()->Input(log_bound), Scale(x, -1))));
  }

  double lower_bound_;
  const Parameter* gain_;
};

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  return std::make_unique<Hgrn2Mixer>(config, QkvMixer::EvenLayout(config));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "hgrn2";
  d.title = "HGRN2";
  d.family = "additive recurrence";
  d.paper = "arXiv 2404.07904";
  d.summary = "a linear memory that writes what it forgets";
  d.tolerance = 5e-7;
  d.options = {OptionSpec::Int("chunk", 64, 1, 4096,
                               "tokens between states kept for the backward")};
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<Hgrn2Operator>(options);
     },
     MakeMixer});

}  // namespace
}  // namespace mneme
