// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/gate_init.h"

#include <cmath>

namespace mneme {

const Parameter* AddStratified(const std::string& name, int64_t n,
                               const std::function<double(double)>& quantile,
                               ParameterSet* parameters, int64_t groups) {
  Parameter* parameter =
      parameters->Add(name, {n}, Init::Uniform(0.5), /*decay=*/false);
  const int64_t slices = n / groups;
  DispatchDType(parameter->value.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* x = parameter->value.data<T>();
    for (int64_t i = 0; i < n; ++i) {
      const double within = double{x[i]} + 0.5;  // [0, 1)
      const double slice = static_cast<double>(i % slices);
      x[i] = static_cast<T>(quantile((slice + within) / slices));
    }
  });
  return parameter;
}

const Parameter* AddStepBias(const std::string& name, int64_t n,
                             ParameterSet* parameters, int64_t groups) {
  return AddStratified(
      name, n,
      [](double u) {
        const double step = 1e-3 * std::pow(100.0, u);
        return step + std::log(-std::expm1(-step));  // softplus of it is step
      },
      parameters, groups);
}

}  // namespace mneme
