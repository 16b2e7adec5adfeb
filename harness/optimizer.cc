// SPDX-License-Identifier: Apache-2.0

#include "harness/optimizer.h"

#include <algorithm>
#include <cmath>

namespace mneme {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Sum of squares. Four partial sums in double, whatever the element type: a
// fixed order, and no overflow for any finite float.
template <typename T>
double SumOfSquares(const T* x, int64_t n) {
  double sums[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int lane = 0; lane < 4; ++lane) {
      const double value = x[i + lane];
      sums[lane] += value * value;
    }
  }
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

double LearningRate(const AdamWConfig& config, int64_t step) {
  if (step < config.warmup_steps) {
    return config.learning_rate * (step + 1) / config.warmup_steps;
  }
  double done = step - config.warmup_steps;
  double span = config.total_steps - config.warmup_steps;
  if (const int64_t epoch = config.steps_per_epoch; epoch > 0) {
    done = step / epoch;
    span = (config.total_steps + epoch - 1) / epoch;
  }
  if (span <= 0) return config.learning_rate;
  const double cosine = std::cos(kPi * std::min(1.0, done / span));
  return config.min_learning_rate +
         (config.learning_rate - config.min_learning_rate) * 0.5 * (1 + cosine);
}

AdamW::AdamW(ParameterSet* parameters, const AdamWConfig& config)
    : parameters_(parameters),
      config_(config),
      first_(parameters->dtype(), {parameters->elements()}),
      second_(parameters->dtype(), {parameters->elements()}) {}

double AdamW::Step(GradientBuffer* gradients) {
  double norm = 0;
  DispatchDType(parameters_->dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* all = gradients->flat().data<T>();
    const int64_t n = gradients->flat().elements();
    norm = std::sqrt(SumOfSquares(all, n));
    if (!std::isfinite(norm)) return;
    const bool clip = config_.clip_norm > 0 && norm > config_.clip_norm;
    const T shrink = clip ? static_cast<T>(config_.clip_norm / norm) : T{1};
    const double rate = LearningRate(config_, steps_);
    const double age = static_cast<double>(++steps_);
    const T beta1 = static_cast<T>(config_.beta1);
    const T beta2 = static_cast<T>(config_.beta2);
    // 1 / (1 - beta^t) undoes the moments' start at zero.
    const T unbias1 = static_cast<T>(1 / (1 - std::pow(config_.beta1, age)));
    const T unbias2 = static_cast<T>(1 / (1 - std::pow(config_.beta2, age)));
    const T eps = static_cast<T>(config_.eps);
    for (const auto& parameter : parameters_->all()) {
      const bool groups = config_.parameter_groups;
      const double scaled =
          groups ? rate * parameter->learning_rate_scale : rate;
      const T step = static_cast<T>(scaled);
      const T keep = static_cast<T>(1 - (parameter->decay || !groups
                                             ? scaled * config_.weight_decay
                                             : 0));
      T* g = all + parameter->offset;
      T* m = first_.data<T>() + parameter->offset;
      T* v = second_.data<T>() + parameter->offset;
      T* w = parameter->value.data<T>();
      const int64_t count = parameter->value.elements();
      for (int64_t i = 0; i < count; ++i) {
        g[i] *= shrink;
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
        w[i] = keep * w[i] -
               step * (m[i] * unbias1) / (std::sqrt(v[i] * unbias2) + eps);
      }
    }
  });
  return norm;
}

}  // namespace mneme
