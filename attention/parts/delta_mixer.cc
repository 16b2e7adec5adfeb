// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/delta_mixer.h"

#include <cmath>
#include <memory>

#include "absl/strings/str_cat.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

QkvMixer::Layout DeltaLayout(const MixerConfig& config) {
  QkvMixer::Layout layout = QkvMixer::EvenLayout(config);
  layout.value_dim *= config.options.Int("value_factor");
  layout.short_conv = 4;
  layout.conv_activation = kernels::Unary::kSilu;
  return layout;
}

// x / sqrt(|x|^2 + 1e-6): an RMS norm without its factor sqrt(n).
Variable UnitLength(Variable x) {
  if (!x.valid()) return x;
  const double n = x.shape().dim(-1);
  return Scale(Norm(kernels::NormKind::kRms, x, {}, {}, 1e-6 / n),
               1 / std::sqrt(n));
}

}  // namespace

std::vector<OptionSpec> DeltaMixer::Specs(int64_t value_factor) {
  return {DeltaOperator::ChunkOption(),
          OptionSpec::Int("value_factor", value_factor, 1, 8,
                          "value width of a head in multiples of its key "
                          "width"),
          OptionSpec::Bool("negative_eigenvalues", false,
                           "write strengths up to 2: memories can flip")};
}

DeltaMixer::DeltaMixer(const MixerConfig& config, DeltaDecay decay)
    : QkvMixer(config, std::make_unique<DeltaOperator>(decay, config.options),
               DeltaLayout(config)),
      decay_(decay),
      strength_(config.options.Bool("negative_eigenvalues") ? 2 : 1),
      beta_(AddDense(config, "beta", config.width, layout().heads)),
      norm_(config.parameters->Add(absl::StrCat(config.name, ".norm"),
                                   {layout().value_dim}, Init::Constant(1),
                                   /*decay=*/false)) {}

void DeltaMixer::Prepare(const MixerCall& call, int64_t,
                         std::vector<Variable>* inputs) const {
  for (int i : {0, 1}) (*inputs)[i] = UnitLength((*inputs)[i]);
  Variable beta =
      Map(kernels::Unary::kSigmoid, Linear(call.x, call.x.tape()->Use(*beta_)));
  if (strength_ != 1) beta = Scale(beta, strength_);
  inputs->push_back(beta);
  if (decay_ != DeltaDecay::kNone) inputs->push_back(LogDecay(call));
}

Variable DeltaMixer::Finish(const MixerCall& call, const std::vector<Variable>&,
                            Variable o) const {
  if (!o.valid()) return o;
  Variable normed =
      Norm(kernels::NormKind::kRms, o, o.tape()->Use(*norm_), {}, /*eps=*/1e-5);
  return normed.valid() ? Gate(call, normed) : normed;
}

Variable StepsToLogDecay(Variable steps, Variable rate) {
  if (!steps.valid() || !rate.valid()) return {};
  const int64_t heads = rate.value().elements();
  const int64_t n = steps.shape().dim(-1) / heads;
  Tape* tape = steps.tape();
  Tensor y = tape->New(steps.shape());
  // body(h, i) for every head of every token, whose steps are [i, i + n).
  const auto for_each_head =
      [heads, n, rows = y.elements() / (heads * n)](const auto& body) {
        for (int64_t i = 0; i < rows * heads; ++i) body(i % heads, i * n);
      };
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *x = steps.value().data<T>(), *log_rate = rate.value().data<T>();
    std::vector<T> factor(heads);
    for (int64_t h = 0; h < heads; ++h) factor[h] = -std::exp(log_rate[h]);
    for_each_head([&, out = y.data<T>()](int64_t h, int64_t i) {
      for (int64_t c = i; c < i + n; ++c) out[c] = factor[h] * x[c];
    });
  });
  return tape->Record(y, {steps, rate}, [=](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const T *d = d_y.data<T>(), *out = y.data<T>();
      if (steps.needs_gradient()) {
        const T* log_rate = rate.value().data<T>();
        std::vector<T> factor(heads);
        for (int64_t h = 0; h < heads; ++h) factor[h] = -std::exp(log_rate[h]);
        for_each_head(
            [&, d_x = steps.gradient().data<T>()](int64_t h, int64_t i) {
              for (int64_t c = i; c < i + n; ++c) d_x[c] += factor[h] * d[c];
            });
      }
      if (rate.needs_gradient()) {
        std::vector<double> sums(heads);
        for_each_head([&](int64_t h, int64_t i) {
          for (int64_t c = i; c < i + n; ++c) sums[h] += double{d[c]} * out[c];
        });
        T* d_rate = rate.gradient().data<T>();
        for (int64_t h = 0; h < heads; ++h) {
          d_rate[h] += static_cast<T>(sums[h]);
        }
      }
    });
  });
}

}  // namespace mneme
