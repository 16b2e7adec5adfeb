// SPDX-License-Identifier: Apache-2.0
//
// Retention (RetNet, arXiv 2307.08621): linear attention without a feature map
// or a normaliser, whose memory fades by a fixed factor a token,
//
//   S_t = gamma_h S_{t-1} + k_t v_t^T,   o_t = key_dim^-1/2 S_t^T q_t,
//   gamma_h = 1 - 2^(-5-h)  for head h = 0, 1, ...
//
// The layer turns queries and keys by position (adjacent pairs, RetNet's own
// frequency grid, no xPos magnitudes), normalises every head's output (RMS, no
// gain, as the published code) and gates it: (norm(o) * silu(x W_g)) W_o. The
// norm makes any positive scaling of a row immaterial, so the paper's three
// numerical normalisers are not needed in exact arithmetic and are left out.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "attention/kernels/rotary.h"
#include "attention/parts/additive_heads.h"
#include "attention/parts/one_token.h"
#include "attention/parts/precision.h"
#include "attention/parts/qkv_mixer.h"
#include "attention/variant.h"

namespace mneme {
namespace {

enum Input { kQuery, kKey, kValue };

// The first are computed once: eight take as long as a step over one state.
double LogDecay(int64_t head) {
  const auto compute = [](int64_t h) {
    return std::log1p(-std::exp2(-5.0 - static_cast<double>(h)));
  };
  static const std::vector<double> first = [&] {
    std::vector<double> log_decays;
    for (int64_t h = 0; h < 64; ++h) log_decays.push_back(compute(h));
    return log_decays;
  }();
  return head < static_cast<int64_t>(first.size()) ? first[head]
                                                   : compute(head);
}

class RetentionOperator : public Operator {
 public:
  explicit RetentionOperator(const Options& options)
      : chunk_(options.Int("chunk")), bf16_(WantsBf16(options)) {}

  std::vector<InputSpec> Inputs() const override {
    return {{"q", "BLHK", "queries [batch, length, heads, key_dim]"},
            {"k", "BLHK", "keys [batch, length, heads, key_dim]"},
            {"v", "BLHV", "values [batch, length, heads, value_dim]"}};
  }

  absl::Status Forward(OperatorCall* call) const override {
    if (TakesOneToken(*call)) {
      DispatchDType(call->output.dtype(), [&](auto zero) {
        using T = decltype(zero);
        absl::InlinedVector<T, 16> log_decay(call->dims.batch *
                                             call->dims.heads);
        for (size_t i = 0; i < log_decay.size(); ++i) {
          log_decay[i] = static_cast<T>(LogDecay(i % call->dims.heads));
        }
        AdditiveHeadsStep<T>(Recurrence(*call), {log_decay.data()}, call->state,
                             call->output);
      });
      return absl::OkStatus();
    }
    Tensor states;
    AdditiveHeadsForward(WithDecay(*call), call->state, call->output, Tensor(),
                         call->arena, call->keep ? &states : nullptr);
    if (call->keep) call->saved = {states};
    return absl::OkStatus();
  }

  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override {
    AdditiveHeadsBackward(WithDecay(call), call.saved[0], d_output, Tensor(),
                          {d_inputs[kQuery], d_inputs[kKey], d_inputs[kValue]});
    return absl::OkStatus();
  }

  std::unique_ptr<State> NewState(const Dims& dims,
                                  DType dtype) const override {
    return NewAdditiveState(dims, dims.key_dim, /*normaliser=*/false, dtype);
  }

  int64_t StateBytes(const Dims& d) const override {
    return sizeof(float) * d.batch * d.heads * d.key_dim * d.value_dim;
  }

  Cost ForwardCost(const Dims& dims, Form form) const override {
    Cost cost = AdditiveHeadsCost(
        dims, dims.key_dim, ChunkOf(form, dims.length, chunk_), true, false);
    cost.exps = dims.heads;  // every token of a head fades alike
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
    for (int64_t b = 0; b < d.batch; ++b) {
      for (int64_t h = 0; h < d.heads; ++h) {
        const double gamma = 1 - std::pow(2.0, -5.0 - h);
        const auto q = call.inputs[kQuery].Sequence<double>(b, h);
        const auto k = call.inputs[kKey].Sequence<double>(b, h);
        const auto v = call.inputs[kValue].Sequence<double>(b, h);
        const auto o = call.output.Sequence<double>(b, h);
        for (int64_t i = 0; i < d.length; ++i) {
          for (int64_t c = 0; c < d.value_dim; ++c) o(i, c) = 0;
          for (int64_t j = 0; j <= i; ++j) {
            double score = 0;
            for (int64_t c = 0; c < d.key_dim; ++c) score += q(i, c) * k(j, c);
            score *= std::pow(gamma, static_cast<double>(i - j)) /
                     std::sqrt(static_cast<double>(d.key_dim));
            for (int64_t c = 0; c < d.value_dim; ++c)
              o(i, c) += score * v(j, c);
          }
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  AdditiveHeads Recurrence(const OperatorCall& call) const {
    const Dims& d = call.dims;
    AdditiveHeads a;
    a.query = call.inputs[kQuery];
    a.key = call.inputs[kKey];
    a.value = call.inputs[kValue];
    a.scale = 1 / std::sqrt(static_cast<double>(d.key_dim));
    a.chunk = ChunkOf(call.form, d.length, chunk_);
    a.bf16 = bf16_;
    a.pool = call.pool;
    return a;
  }

  // The sequences share the decays.
  AdditiveHeads WithDecay(const OperatorCall& call) const {
    const Dims& d = call.dims;
    AdditiveHeads a = Recurrence(call);
    a.log_decay = Tensor(call.arena, a.query.dtype(), {1, d.heads, d.length});
    DispatchDType(a.query.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* to = a.log_decay.data<T>();
      for (int64_t h = 0; h < d.heads; ++h) {
        to = std::fill_n(to, d.length, static_cast<T>(LogDecay(h)));
      }
    });
    return a;
  }

  int64_t chunk_;
  bool bf16_;
};

class RetentionMixer : public QkvMixer {
 public:
  RetentionMixer(const MixerConfig& config, const Layout& layout)
      : QkvMixer(config, std::make_unique<RetentionOperator>(config.options),
                 layout),
        frequencies_(kernels::RetNetFrequencies(layout.key_dim)),
        gate_(AddDense(config, "gate", config.width,
                       layout.heads * layout.value_dim, layout.gain_in)) {}

 protected:
  void Prepare(const MixerCall&, int64_t first_position,
               std::vector<Variable>* inputs) const override {
    for (Input i : {kQuery, kKey}) {
      (*inputs)[i] = Rotary((*inputs)[i], frequencies_,
                            kernels::RotaryPairing::kAdjacent, first_position);
    }
  }

  Variable Finish(const MixerCall& call, const std::vector<Variable>&,
                  Variable o) const override {
    constexpr double kEps = 1e-6;
    Variable normed = Norm(kernels::NormKind::kRms, o, {}, {}, kEps);
    if (!normed.valid()) return normed;
    Variable gate = Linear(call.x, o.tape()->Use(*gate_));
    return SiluGate(normed, Reshape(gate, normed.shape()));
  }

 private:
  std::vector<double> frequencies_;
  const Parameter* gate_;
};

absl::StatusOr<std::unique_ptr<Mixer>> MakeMixer(const MixerConfig& config) {
  QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  if (layout.key_dim < 4 || layout.key_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("retention turns pairs of a head's dimensions, so its "
                     "width must be even and at least 4, not ",
                     layout.key_dim));
  }
  layout.value_dim *= config.options.Int("value_factor");
  // Initial gains of the paper's code.
  layout.gain_in = std::exp2(-2.5);
  layout.gain_out = std::exp2(-1.0);
  return std::make_unique<RetentionMixer>(config, layout);
}

VariantDescriptor Describe() {
  VariantDescriptor d;
  d.name = "retention";
  d.title = "Retention";
  d.family = "additive recurrence";
  d.paper = "arXiv 2307.08621";
  d.summary = "a linear memory that fades by a fixed factor per head";
  d.tolerance = 6e-7;  // measured 3.6e-7
  d.options = {
      OptionSpec::Int("value_factor", 2, 1, 8,
                      "value width of a head in multiples of its key width"),
      OptionSpec::Int("chunk", 64, 1, 4096,
                      "tokens a block in the chunked form"),
      PrecisionOption()};
  d.variations = {{{"value_factor", "1"}}};
  // Measured 1.9e-2 for a token that continues from a state, whose bound is
  // twice this.
  AddBf16Tolerance(1.2e-2, &d);
  return d;
}

const bool kRegistered = RegisterVariant(
    {Describe(),
     [](const Options& options) -> absl::StatusOr<std::unique_ptr<Operator>> {
       return std::make_unique<RetentionOperator>(options);
     },
     MakeMixer});

}  // namespace
}  // namespace mneme
