// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/quotient.h"

#include <cstdint>

#include "attention/kernels/vector_math.h"

namespace mneme {
namespace {

// Calls visit(row, i): row is the (b, t, h) row of a [batch, length, heads, *]
// array, i the (b, h, t) entry of the denominators.
template <typename Visit>
void ForEachToken(const Tensor& denominator, const Visit& visit) {
  const int64_t batch = denominator.dim(0), heads = denominator.dim(1),
                length = denominator.dim(2);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        visit((b * length + t) * heads + h, (b * heads + h) * length + t);
      }
    }
  }
}

}  // namespace

QuotientGradient DivideByDenominatorBackward(const Tensor& output,
                                             const Tensor& denominator,
                                             const Tensor& d_output, double eps,
                                             Arena* arena) {
  QuotientGradient result = {
      Tensor(arena, output.dtype(), output.shape()),
      Tensor(arena, output.dtype(), denominator.shape())};
  DispatchDType(output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const int64_t dim = output.dim(3);
    ForEachToken(denominator, [&](int64_t row, int64_t i) {
      const T inverse = 1 / (denominator.data<T>()[i] + static_cast<T>(eps));
      const T* o = output.data<T>() + row * dim;
      const T* d_o = d_output.data<T>() + row * dim;
      T* d_numerator = result.d_numerator.data<T>() + row * dim;
      for (int64_t c = 0; c < dim; ++c) d_numerator[c] = d_o[c] * inverse;
      result.d_denominator.data<T>()[i] = -kernels::Dot(d_o, o, dim) * inverse;
    });
  });
  return result;
}

}  // namespace mneme
