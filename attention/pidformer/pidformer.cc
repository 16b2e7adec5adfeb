// SPDX-License-Identifier: Apache-2.0
//
// PIDformer (arXiv 2402.15989): softmax attention smooths the values of a
// sequence a little more in every layer; a proportional, integral and
// derivative controller steers them back towards the first layer's. Per head,
// before the output projection of layer l,
//
//   u^l = softmax(q k^T / sqrt(key_dim)) v^l
//         + P e^l + I E^{l-1} + D (v^{l-2} - v^{l-1}),
//   e^l = beta v^0 - v^l,   E^l = 0.3 e^l + 0.7 E^{l-1},   E^0 = 0,
//
// all from layer 1 on, the derivative, which lags one layer behind, from layer
// 2; layer 0 is plain attention. v^0 therefore gets a gradient from every
// layer. The terms are per token, so decoding remembers what attention does,
// keys and values, and no more: the layers of one pass hand v and E on.
//
// Not verified against the paper, whose discrete form probably sums all e^m
// with equal weight and takes e^l - e^{l-1}. The running mean, the lags and the
// gains above are those of a published port that calls itself the authors'.
// Attention is causal here.

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attention/kernels/parallel.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/attention_mixer.h"
#include "attention/parts/causal_attention.h"
#include "attention/tensor/ops.h"
#include "attention/variant.h"

namespace mneme {
namespace {

constexpr double kIntegralKept = 0.7;  // of E^{l-1}; the rest comes from e^l

// Attention of a layer after the first, with what the controller adds.
class PidOperator : public CausalAttention {
 public:
  explicit PidOperator(const Options& options)
      : CausalAttention(options),
        p_(options.Real("p")),
        i_(options.Real("i")),
        d_(options.Real("d")),
        beta_(options.Real("beta")) {}

  std::vector<InputSpec> Inputs() const override {
    std::vector<InputSpec> inputs = CausalAttention::Inputs();
    const std::string shape = " [batch, length, kv_heads, value_dim]";
    inputs.push_back({"v0", "BLGV", "values of the first layer" + shape});
    inputs.push_back({"integral", "BLGV", "running mean of errors" + shape});
    inputs.push_back({"derivative", "BLGV", "change of the error" + shape});
    return inputs;
  }

  // The attention's backward needs its own result, without the terms.
  absl::Status Forward(OperatorCall* call) const override {
    OperatorCall attention = *call;
    if (call->keep) {
      attention.output =
          Tensor(call->arena, call->output.dtype(), call->output.shape());
    }
    if (absl::Status s = CausalAttention::Forward(&attention); !s.ok()) {
      return s;
    }
    if (call->keep) {
      call->saved = {attention.saved[0], attention.output};
      std::memcpy(call->output.raw(), attention.output.raw(),
                  call->output.bytes());
    }
    DispatchDType(call->output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      for (const Term& term : Terms()) {
        const T* x = call->inputs[term.input].data<T>();
        T* o = call->output.data<T>();
        ForEachRow(*call, [&](int64_t out, int64_t in, int64_t n) {
          kernels::Axpy(static_cast<T>(term.factor), x + in, o + out, n);
        });
      }
    });
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    OperatorCall attention = call;
    attention.output = call.saved[1];
    if (absl::Status s =
            CausalAttention::Backward(attention, d_output, d_inputs);
        !s.ok()) {
      return s;
    }
    DispatchDType(d_output.dtype(), [&](auto zero) {
      using T = decltype(zero);
      for (const Term& term : Terms()) {
        if (d_inputs[term.input].empty()) continue;
        T* d_x = d_inputs[term.input].data<T>();
        const T* d_o = d_output.data<T>();
        ForEachRow(call, [&](int64_t out, int64_t in, int64_t n) {
          kernels::Axpy(static_cast<T>(term.factor), d_o + out, d_x + in, n);
        });
      }
    });
    return absl::OkStatus();
  }

  Cost ForwardCost(const Dims& d, Form form) const override {
    Cost cost = CausalAttention::ForwardCost(d, form);
    const double tokens = static_cast<double>(d.batch) * d.length;
    cost.flops += 8 * tokens * d.heads * d.value_dim;
    cost.bytes += 3 * sizeof(float) * tokens * d.kv_heads * d.value_dim;
    return cost;
  }

  absl::Status Reference(const OperatorCall& call) const override {
    if (absl::Status s = CausalAttention::Reference(call); !s.ok()) return s;
    const Dims& d = call.dims;
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const int64_t g = h * d.kv_heads / d.heads;
        const auto of = [&](PidInput input) {
          return call.inputs[input].Sequence<double>(b, g);
        };
        const auto v = call.inputs[kValue].Sequence<double>(b, g);
        const auto u = call.output.Sequence<double>(b, h);
        for (int64_t t = 0; t < d.length; ++t) {
          for (int64_t c = 0; c < d.value_dim; ++c) {
            const double error = beta_ * of(kFirst)(t, c) - v(t, c);
            u(t, c) += p_ * error + i_ * of(kIntegral)(t, c) +
                       d_ * of(kDerivative)(t, c);
          }
        }
      }
    }
    return absl::OkStatus();
  }

  // Values that are the target already: the controller rests.
  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override {
    if (beta_ == 0) {
      return absl::UnimplementedError(
          "with beta = 0 its controller works against every value");
    }
    Tensor first = values.Clone();
    DispatchDType(first.dtype(), [&](auto zero) {
      using T = decltype(zero);
      for (int64_t i = 0; i < first.elements(); ++i) {
        first.data<T>()[i] /= static_cast<T>(beta_);
      }
    });
    return NeutralInputs(
        Inputs(), {{"q", queries}, {"k", keys}, {"v", values}, {"v0", first}},
        {{"integral", 0}, {"derivative", 0}});
  }

 private:
  enum PidInput { kFirst = 3, kIntegral, kDerivative };

  struct Term {
    int input;
    double factor;
  };
  std::vector<Term> Terms() const {
    return {{kFirst, p_ * beta_},
            {kValue, -p_},
            {kIntegral, i_},
            {kDerivative, d_}};
  }

  // row(where in the output, where in an input shaped like v, elements) for all
  // elements of the output. Sequences are tasks: they write apart.
  template <typename Row>
  static void ForEachRow(const OperatorCall& call, const Row& row) {
    const Dims& d = call.dims;
    const int64_t group = d.heads / d.kv_heads, dim = d.value_dim;
    kernels::ParallelFor(call.pool, d.batch, [&](size_t b, int) {
      const int64_t first = b * d.length * d.heads;
      if (group == 1) {
        row(first * dim, first * dim, d.length * d.heads * dim);
        return;
      }
      for (int64_t i = first; i < first + d.length * d.heads; ++i) {
        row(i * dim, i / group * dim, dim);
      }
    });
  }

  double p_, i_, d_, beta_;
};

class PidMixer : public AttentionMixer {
 public:
  PidMixer(const MixerConfig& config, const Layout& layout,
           std::unique_ptr<Operator> op)
      : AttentionMixer(config, std::move(op), layout),
        beta_(config.options.Real("beta")),
        layer_(config.layer),
        last_(config.layer + 1 == config.layers) {}

 protected:
  void Prepare(const MixerCall& call, int64_t first_position,
               std::vector<Variable>* inputs) const override {
    AttentionMixer::Prepare(call, first_position, inputs);
    // Of layer 0, of the last one and of the one before it; and E.
    Variable& first = (*call.shared)["pidformer.v0"];
    Variable& previous = (*call.shared)["pidformer.previous"];
    Variable& before = (*call.shared)["pidformer.before"];
    Variable& integral = (*call.shared)["pidformer.integral"];
    const Variable v = (*inputs)[2];
    if (layer_ == 0) {
      first = previous = v;
      return;
    }
    if (layer_ == 1) integral = Zeros(v);
    inputs->push_back(first);
    inputs->push_back(integral);
    inputs->push_back(layer_ == 1 ? integral
                                  : Add(before, Scale(previous, -1)));
    if (last_) return;
    const Variable error = Add(Scale(first, beta_), Scale(v, -1));
    const Variable fresh = Scale(error, 1 - kIntegralKept);
    integral = layer_ == 1 ? fresh : Add(fresh, Scale(integral, kIntegralKept));
    before = previous;
    previous = v;
  }

 private:
  static Variable Zeros(Variable like) {
    if (!like.valid()) return like;
    Tensor zeros = like.tape()->New(like.shape());
    zeros.FillZero();
    return like.tape()->Input(zeros);
  }

  double beta_;
  int layer_;
  bool last_;
};

absl::StatusOr<std::unique_ptr<Operator>> MakeOperator(const Options& options) {
  return std::make_unique<PidOperator>(options);
}

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  auto layout = AttentionMixer::LayoutOf(config, "pidformer", /*grouped=*/true);
  if (!layout.ok()) return layout.status();
  std::unique_ptr<Operator> op;
  if (config.layer == 0) {
    op = std::make_unique<CausalAttention>(config.options);
  } else {
    op = std::make_unique<PidOperator>(config.options);
  }
  return std::make_unique<PidMixer>(config, *layout, std::move(op));
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "pidformer";
  d.title = "PIDformer";
  d.family = "softmax";
  d.paper = "arXiv 2402.15989";
  d.summary = "softmax attention steered back to the first layer's values";
  d.tolerance = 3e-7;
  d.options = AttentionMixerOptions(
      /*grouped=*/true,
      {OptionSpec::Real("p", 0.8, -1e3, 1e3, "gain of the error"),
       OptionSpec::Real("i", 0.5, -1e3, 1e3, "gain of its running mean"),
       OptionSpec::Real("d", 0.05, -1e3, 1e3, "gain of its change"),
       OptionSpec::Real("beta", 0.1, -1e3, 1e3,
                        "share of the first layer's values in the target"),
       ChunkOption()});
  d.variations = {{{"kv_heads", "1"}, {"rope", "true"}},
                  {{"p", "-0.3"}, {"i", "2"}, {"d", "1.5"}, {"beta", "1"}}};
  return d;
}

const bool kRegistered = RegisterVariant({Describe(), MakeOperator, MakeMixer});

}  // namespace
}  // namespace mneme
