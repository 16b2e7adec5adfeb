// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/gate_init.h"

#include <cmath>

namespace mneme {

const Parameter* AddTransformed(const std::string& name, int64_t n,
                                const std::function<double(double)>& f,
                                ParameterSet* parameters) {
  Parameter* parameter =
      parameters->Add(name, {n}, Init::Uniform(1), /*decay=*/false);
  DispatchDType(parameter->value.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* x = parameter->value.data<T>();
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(f((x[i] + 1) / 2));
  });
  return parameter;
}

const Parameter* AddStepBias(const std::string& name, int64_t n,
                             ParameterSet* parameters) {
  return AddTransformed(
      name, n,
      [](double u) {
        const double step = 1e-3 * std::pow(100.0, u);
        return step + std::log(-std::expm1(-step));  // softplus of it is step
      },
      parameters);
}

}  // namespace mneme
