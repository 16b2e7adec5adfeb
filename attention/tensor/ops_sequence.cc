// SPDX-License-Identifier: Apache-2.0
//
// Operations along rows and along the sequence.

#include <utility>

#include "attention/kernels/causal_conv.h"
#include "attention/tensor/op_util.h"
#include "attention/tensor/ops.h"

namespace mneme {

using internal::AllValid;
using internal::OptionalData;
using internal::OptionalGradient;
using internal::ShapeError;
using kernels::MatrixView;

Variable Norm(kernels::NormKind kind, Variable x, Variable gain, Variable bias,
              double eps) {
  if (!x.valid()) return {};
  Tape* tape = x.tape();
  for (Variable v : {gain, bias}) {
    if (v.valid() && v.value().elements() != x.shape().dim(-1)) {
      return ShapeError("Norm", x, v, "want [..., n] and [n]");
    }
  }
  const int64_t rows = x.shape().rows();
  Tensor y = tape->New(x.shape());
  Tensor mean = tape->New({rows}), rstd = tape->New({rows});
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::NormForward(kind, x.value().Matrix<T>(), OptionalData<T>(gain),
                         OptionalData<T>(bias), static_cast<T>(eps),
                         y.Matrix<T>(), mean.data<T>(), rstd.data<T>());
  });
  return tape->Record(
      std::move(y), {x, gain, bias},
      [kind, x, gain, bias, mean, rstd](const Tensor& d_y) {
        DispatchDType(d_y.dtype(), [&](auto zero) {
          using T = decltype(zero);
          // The kernel computes d_x on its way to d_gain; when nobody wants it
          // (x is data) it goes to scratch.
          Tensor d_x =
              x.needs_gradient() ? x.gradient() : x.tape()->New(x.shape());
          if (!x.needs_gradient()) d_x.FillZero();
          kernels::NormBackward(
              kind, x.value().Matrix<T>(), OptionalData<T>(gain),
              mean.data<T>(), rstd.data<T>(), d_y.Matrix<T>(), d_x.Matrix<T>(),
              OptionalGradient<T>(gain), OptionalGradient<T>(bias));
        });
      });
}

Variable CausalConv(Variable x, Variable weight, Variable bias,
                    const Tensor& history) {
  if (!AllValid({x, weight})) return {};
  Tape* tape = x.tape();
  if (x.shape().rank() != 3 || weight.shape().rank() != 2 ||
      weight.shape().dim(1) != x.shape().dim(2)) {
    return ShapeError("CausalConv", x, weight,
                      "want [batch, length, channels] and [width, channels]");
  }
  const int64_t batch = x.shape().dim(0);
  const size_t length = x.shape().dim(1), channels = x.shape().dim(2);
  const size_t past = weight.shape().dim(0) - 1;
  if (!history.empty() &&
      (history.dtype() != tape->dtype() ||
       history.shape() != Shape({batch, static_cast<int64_t>(past),
                                 static_cast<int64_t>(channels)}))) {
    return tape->Fail(absl::InvalidArgumentError(absl::StrCat(
        "CausalConv: history ", history.shape().ToString(), " for input ",
        x.shape().ToString(), " and weight ", weight.shape().ToString())));
  }
  // One sequence of a [batch, length, channels] array.
  auto sequence = [=](auto* data, int64_t b, size_t rows) {
    return MatrixView(data + b * rows * channels, rows, channels);
  };
  Tensor y = tape->New(x.shape());
  DispatchDType(tape->dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t b = 0; b < batch; ++b) {
      MatrixView<const T> before;
      if (!history.empty()) before = sequence(history.data<T>(), b, past);
      kernels::CausalConvForward(
          sequence(x.value().data<T>(), b, length), weight.value().Matrix<T>(),
          OptionalData<T>(bias), before, sequence(y.data<T>(), b, length));
    }
  });
  if (!history.empty()) return tape->Input(std::move(y));
  return tape->Record(std::move(y), {x, weight, bias}, [=](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      // All three gradients fall out of one pass; unwanted ones go to
      // scratch.
      auto target = [](Variable v) {
        if (v.needs_gradient()) return v.gradient();
        Tensor scratch = v.tape()->New(v.shape());
        scratch.FillZero();
        return scratch;
      };
      Tensor d_x = target(x), d_w = target(weight);
      for (int64_t b = 0; b < batch; ++b) {
        kernels::CausalConvBackward(sequence(x.value().data<T>(), b, length),
                                    weight.value().Matrix<T>(),
                                    sequence(d_y.data<T>(), b, length),
                                    sequence(d_x.data<T>(), b, length),
                                    d_w.Matrix<T>(), OptionalGradient<T>(bias));
      }
    });
  });
}

Variable Rotary(Variable x, const std::vector<double>& frequencies,
                kernels::RotaryPairing pairing, int64_t first_position) {
  if (!x.valid()) return {};
  Tape* tape = x.tape();
  if (x.shape().rank() != 4 ||
      x.shape().dim(3) != 2 * static_cast<int64_t>(frequencies.size())) {
    return tape->Fail(absl::InvalidArgumentError(absl::StrCat(
        "Rotary: input ", x.shape().ToString(), " with ", frequencies.size(),
        " frequencies: want [batch, length, heads, 2 * frequencies]")));
  }
  auto rotate = [frequencies, pairing, first_position](
                    const Tensor& from, bool inverse, const Tensor& to) {
    DispatchDType(from.dtype(), [&](auto zero) {
      using T = decltype(zero);
      const size_t length = from.dim(1), width = from.dim(2) * from.dim(3);
      for (int64_t b = 0; b < from.dim(0); ++b) {
        const size_t start = b * length * width;
        kernels::Rotate(
            MatrixView<const T>(from.data<T>() + start, length, width),
            frequencies, pairing, first_position, inverse,
            MatrixView<T>(to.data<T>() + start, length, width));
      }
    });
  };
  Tensor y = tape->New(x.shape());
  rotate(x.value(), /*inverse=*/false, y);
  // A rotation's transpose is its inverse, so the gradient is turned back.
  return tape->Record(std::move(y), {x}, [x, rotate](const Tensor& d_y) {
    const GradientSlot slot = x.gradient_slot();
    if (slot.fresh) return rotate(d_y, /*inverse=*/true, slot.tensor);
    Tensor turned = x.tape()->New(x.shape());
    rotate(d_y, /*inverse=*/true, turned);
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T* g = slot.tensor.data<T>();
      kernels::Add(g, turned.data<T>(), g, turned.elements());
    });
  });
}

}  // namespace mneme
