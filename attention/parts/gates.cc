// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/gates.h"

#include <utility>

#include "attention/kernels/vector_math.h"

namespace mneme {

Variable ScaledSigmoid(Variable x, double factor) {
  if (!x.valid()) return x;
  Tensor y = x.tape()->New(x.shape());
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* out = y.data<T>();
    kernels::Map(kernels::Unary::kSigmoid, x.value().data<T>(), out,
                 y.elements());
    const T scale = static_cast<T>(factor);
    for (int64_t i = 0; i < y.elements(); ++i) out[i] *= scale;
  });
  return x.tape()->Record(y, {x}, [x, y, factor](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const T *d = d_y.data<T>(), *out = y.data<T>();
      T* d_x = x.gradient().data<T>();
      const T inverse = static_cast<T>(1 / factor);
      for (int64_t i = 0; i < d_y.elements(); ++i) {
        d_x[i] += d[i] * out[i] * (1 - out[i] * inverse);
      }
    });
  });
}

Variable Interpolate(Variable from, Variable to, Variable gate) {
  if (!from.valid() || !to.valid() || !gate.valid()) return {};
  Tensor y = from.tape()->New(from.shape());
  const int64_t n = y.elements();
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *x0 = from.value().data<T>(), *x1 = to.value().data<T>();
    const T* w = gate.value().data<T>();
    T* out = y.data<T>();
    for (int64_t i = 0; i < n; ++i) out[i] = x0[i] + (x1[i] - x0[i]) * w[i];
  });
  return from.tape()->Record(
      std::move(y), {from, to, gate}, [from, to, gate, n](const Tensor& d_y) {
        DispatchDType(d_y.dtype(), [&](auto zero) {
          using T = decltype(zero);
          const T *x0 = from.value().data<T>(), *x1 = to.value().data<T>();
          const T *w = gate.value().data<T>(), *d = d_y.data<T>();
          if (from.needs_gradient()) {
            T* d_from = from.gradient().data<T>();
            for (int64_t i = 0; i < n; ++i) d_from[i] += d[i] * (1 - w[i]);
          }
          if (to.needs_gradient()) {
            T* d_to = to.gradient().data<T>();
            for (int64_t i = 0; i < n; ++i) d_to[i] += d[i] * w[i];
          }
          if (gate.needs_gradient()) {
            T* d_gate = gate.gradient().data<T>();
            for (int64_t i = 0; i < n; ++i) d_gate[i] += d[i] * (x1[i] - x0[i]);
          }
        });
      });
}

}  // namespace mneme
