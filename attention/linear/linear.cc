// SPDX-License-Identifier: Apache-2.0
//
// Linear attention (arXiv 2006.16236): the softmax kernel replaced by a feature
// map phi(x) = elu(x) + 1, so that the history folds into one matrix a head:
//
//   S_t = S_{t-1} + phi(k_t) v_t^T,   z_t = z_{t-1} + phi(k_t),
//   o_t = S_t^T phi(q_t) / (z_t . phi(q_t) + eps),   eps = 1e-6.
//
// There is no 1/sqrt(key_dim): the quotient does not depend on it. phi > 0, so
// the denominator is positive after the first token.

#include <cmath>
#include <memory>
#include <vector>

#include "attention/kernels/vector_math.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/one_token.h"
#include "attention/parts/precision.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/parts/quotient.h"
#include "attention/variant.h"

namespace mneme {
namespace {

constexpr double kEps = 1e-6;  // of the paper's reference implementation

enum Input { kQuery, kKey, kValue };
enum Saved { kQueryFeatures, kKeyFeatures, kStates, kDenominator };

class LinearOperator : public Operator {
 public:
  explicit LinearOperator(const Options& options)
      : chunk_(options.Int("chunk")), bf16_(WantsBf16(options)) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
            {"v", "BLHV", "values [batch, length, heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    const Dims& d = call->dims;
    const DType dtype = call->output.dtype();
    AdditiveHeads a = Recurrence(*call);
    a.query = call->inputs[kQuery];
    a.key = call->inputs[kKey];
    const bool one_token = TakesOneToken(*call);
    a.elu_features = one_token || !(call->keep || bf16_);
    if (!a.elu_features) {
      a.query = Features(a.query, call->arena);
      a.key = Features(a.key, call->arena);
    }
    a.divide = true;
    a.eps = kEps;
    Tensor denominator;
    if (!one_token) {
      denominator = Tensor(call->arena, dtype, {d.batch, d.heads, d.length});
    }
    Tensor states;
    AdditiveHeadsForward(a, call->state, call->output, denominator, call->arena,
                         call->keep ? &states : nullptr);
    if (call->keep) call->saved = {a.query, a.key, states, denominator};
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    AdditiveHeads a = Recurrence(call);
    a.query = call.saved[kQueryFeatures];
    a.key = call.saved[kKeyFeatures];
    const QuotientGradient quotient = DivideByDenominatorBackward(
        call.output, call.saved[kDenominator], d_output, kEps, call.arena);
    Tensor d_features[2];
    for (Input i : {kQuery, kKey}) {
      d_features[i] =
          Tensor(call.arena, d_output.dtype(), call.inputs[i].shape());
      d_features[i].FillZero();
    }
    AdditiveHeadsBackward(
        a, call.saved[kStates], quotient.d_numerator, quotient.d_denominator,
        {d_features[kQuery], d_features[kKey], d_inputs[kValue]});
    for (Input i : {kQuery, kKey}) {
      if (d_inputs[i].empty()) continue;
      DispatchDType(d_output.dtype(), [&](auto zero) {
        using T = decltype(zero);
        kernels::MapBackward(kernels::Unary::kEluPlusOne,
                             call.inputs[i].data<T>(), d_features[i].data<T>(),
                             d_inputs[i].data<T>(), d_inputs[i].elements());
      });
    }
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& dims,
                                  DType dtype) const override {
    return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/true, dtype);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads * d.key_dim * (d.value_dim + 1);
  }

  Cost ForwardCost(const Dims& dims, Form form) const override {
    Cost cost = AdditiveHeadsCost(
        dims, dims.key_dim, ChunkOf(form, dims.length, chunk_), false, true);
    cost.exps += 2.0 * dims.batch * dims.length * dims.heads * dims.key_dim;
    return cost;
  }

  bool MultipliesBf16() const override { return bf16_; }

  Cost BackwardCost(const Dims& dims, Form form) const override {
    Cost cost = Operator::BackwardCost(dims, form);
    cost.flops += CausalScoresFlops(dims, dims.key_dim,
                                    ChunkOf(form, dims.length, chunk_));
    return cost;
  }
  bool StepRewritesState() const override { return true; }

  absl::Status Reference(const OperatorCall& call) const override {
    const Dims& d = call.dims;
    const auto phi = [](double x) { return x > 0 ? x + 1 : std::exp(x); };
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        for (int64_t i = 0; i < d.length; ++i) {
          std::vector<double> sum(d.value_dim);
          double total = 0;
          for (int64_t j = 0; j <= i; ++j) {
            double weight = 0;
            for (int64_t c = 0; c < d.key_dim; ++c) {
              weight += phi(q(i, c)) * phi(k(j, c));
            }
            total += weight;
            for (int64_t c = 0; c < d.value_dim; ++c) {
              sum[c] += weight * v(j, c);
            }
          }
          for (int64_t c = 0; c < d.value_dim; ++c) {
            o(i, c) = sum[c] / (total + kEps);
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  AdditiveHeads Recurrence(const OperatorCall& call) const {
    AdditiveHeads a;
    a.value = call.inputs[kValue];
    a.chunk = ChunkOf(call.form, call.dims.length, chunk_);
    a.normaliser = true;
    a.bf16 = bf16_;
    a.pool = call.pool;
    return a;
  }

  static Tensor Features(const Tensor& x, Arena* arena) {
    Tensor y = Tensor(arena, x.dtype(), x.shape());
    DispatchDType(x.dtype(), [&](auto zero) {
      using T = decltype(zero);
      kernels::Map(kernels::Unary::kEluPlusOne, x.data<T>(), y.data<T>(),
                   x.elements());
    });
    return y;
  }

  int64_t chunk_;
  bool bf16_;
};

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "linear";
  d.title = "Linear attention";
  d.family = "additive recurrence";
  d.paper = "arXiv 2006.16236";
  d.summary = "elu + 1 feature map; the history is one matrix a head";
  d.tolerance = 3e-7;  // measured 1.7e-7
  d.options = {OptionSpec::Int("chunk", 64, 1, 4096,
                               "tokens a block in the chunked form"),
               PrecisionOption()};
  AddBf16Tolerance(6e-3, &d);  // measured 4.3e-3
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<LinearOperator>(options);
     },
     [](const MixerConfig& config) -> absl::StatusOr<std::unique_ptr<Mixer>> {
       return std::make_unique<QkvMixer>(
           config, std::make_unique<LinearOperator>(config.options),
           QkvMixer::EvenLayout(config));
     }});

}  // namespace
}  // namespace mneme
