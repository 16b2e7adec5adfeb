// SPDX-License-Identifier: Apache-2.0

#include <cmath>
#include <cstring>
#include <utility>

#include "attention/tensor/op_util.h"
#include "attention/tensor/ops.h"
#include "attention/tensor/random.h"

namespace mneme {
namespace {

using internal::AllValid;
using internal::OptionalGradient;
using internal::ShapeError;

// target += factor * d, or = for a fresh gradient of factor 1.
template <typename T>
void AccumulateScaled(double factor, const Tensor& d, Variable target) {
  if (!target.needs_gradient()) return;
  const GradientSlot slot = target.gradient_slot();
  if (slot.fresh && factor == 1) {
    std::memcpy(slot.tensor.raw(), d.raw(), d.bytes());
    return;
  }
  if (slot.fresh) {
    Tensor g = slot.tensor;
    g.FillZero();
  }
  kernels::Axpy(static_cast<T>(factor), d.data<T>(), slot.tensor.data<T>(),
                d.elements());
}

}  // namespace

Variable Add(Variable a, Variable b) {
  if (!AllValid({a, b})) return {};
  if (a.shape() != b.shape()) return ShapeError("Add", a, b, "want equal ones");
  Tensor y = a.tape()->New(a.shape());
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::Add(a.value().data<T>(), b.value().data<T>(), y.data<T>(),
                 y.elements());
  });
  return a.tape()->Record(std::move(y), {a, b}, [a, b](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      AccumulateScaled<T>(1, d_y, a);
      AccumulateScaled<T>(1, d_y, b);
    });
  });
}

Variable Scale(Variable x, double factor) {
  if (!x.valid()) return {};
  Tensor y = x.tape()->New(x.shape());
  y.FillZero();
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::Axpy(static_cast<T>(factor), x.value().data<T>(), y.data<T>(),
                  y.elements());
  });
  return x.tape()->Record(std::move(y), {x}, [x, factor](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      AccumulateScaled<decltype(zero)>(factor, d_y, x);
    });
  });
}

Variable Multiply(Variable a, Variable b) {
  if (!AllValid({a, b})) return {};
  if (a.shape() != b.shape()) {
    return ShapeError("Multiply", a, b, "want equal ones");
  }
  Tensor y = a.tape()->New(a.shape());
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::Multiply(a.value().data<T>(), b.value().data<T>(), y.data<T>(),
                      y.elements());
  });
  return a.tape()->Record(std::move(y), {a, b}, [a, b](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      auto accumulate = [&](Variable target, Variable other) {
        if (!target.needs_gradient()) return;
        const GradientSlot slot = target.gradient_slot();
        const T *d = d_y.data<T>(), *factor = other.value().data<T>();
        if (slot.fresh) {
          kernels::Multiply(d, factor, slot.tensor.data<T>(), d_y.elements());
        } else {
          kernels::MultiplyAdd(d, factor, slot.tensor.data<T>(),
                               d_y.elements());
        }
      };
      accumulate(a, b);
      accumulate(b, a);
    });
  });
}

Variable ScaleRows(Variable x, Variable factors) {
  if (!AllValid({x, factors})) return {};
  const int64_t rows = x.shape().rows(), m = factors.shape().elements();
  if (m == 0 || rows % m != 0) {
    return ShapeError("ScaleRows", x, factors,
                      "the factors do not divide the rows");
  }
  const int64_t n = x.shape().dim(-1);
  Tensor y = x.tape()->New(x.shape());
  y.FillZero();
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* factor = factors.value().data<T>();
    for (int64_t i = 0; i < rows; ++i) {
      kernels::Axpy(factor[i % m], x.value().data<T>() + i * n,
                    y.data<T>() + i * n, n);
    }
  });
  return x.tape()->Record(
      std::move(y), {x, factors}, [x, factors, rows, m, n](const Tensor& d_y) {
        DispatchDType(d_y.dtype(), [&](auto zero) {
          using T = decltype(zero);
          const T* d = d_y.data<T>();
          const T* factor = factors.value().data<T>();
          T* d_x = OptionalGradient<T>(x);
          T* d_factor = OptionalGradient<T>(factors);
          for (int64_t i = 0; i < rows; ++i, d += n) {
            if (d_x != nullptr) {
              kernels::Axpy(factor[i % m], d, d_x + i * n, n);
            }
            if (d_factor != nullptr) {
              d_factor[i % m] +=
                  kernels::Dot(d, x.value().data<T>() + i * n, n);
            }
          }
        });
      });
}

Variable Map(kernels::Unary f, Variable x) {
  if (!x.valid()) return {};
  Tensor y = x.tape()->New(x.shape());
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    kernels::Map(f, x.value().data<T>(), y.data<T>(), y.elements());
  });
  return x.tape()->Record(std::move(y), {x}, [x, f](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      kernels::MapBackward(f, x.value().data<T>(), d_y.data<T>(),
                           x.gradient().data<T>(), d_y.elements());
    });
  });
}

Variable Dropout(Variable x, double rate, uint64_t seed, uint64_t first) {
  if (!x.valid()) return {};
  // Sixteen random bits decide on a number: four numbers a word.
  constexpr int kBits = 16, kPerWord = 64 / kBits;
  constexpr uint64_t kOf = uint64_t{1} << kBits;
  const uint64_t dropped = std::llround(rate * kOf);
  if (!(rate >= 0) || dropped >= kOf) {
    return x.tape()->Fail(absl::InvalidArgumentError(
        absl::StrCat("Dropout: rate ", rate, " is not in [0, 1)")));
  }
  if (dropped == 0) return x;
  const double kept = 1 / (1 - static_cast<double>(dropped) / kOf);
  const int64_t batch = x.shape().dim(0), n = x.value().elements() / batch;
  Tensor mask = x.tape()->New(x.shape()), y = x.tape()->New(x.shape());
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    static const uint64_t stream = StreamId("dropout");
    for (int64_t b = 0; b < batch; ++b) {
      Random random(seed, stream, first + b);
      T* row = mask.data<T>() + b * n;
      uint64_t word = 0;
      for (int64_t i = 0; i < n; ++i, word >>= kBits) {
        if (i % kPerWord == 0) word = random.Next();
        row[i] = word % kOf < dropped ? T{0} : static_cast<T>(kept);
      }
    }
    kernels::Multiply(x.value().data<T>(), mask.data<T>(), y.data<T>(),
                      y.elements());
  });
  return x.tape()->Record(std::move(y), {x}, [x, mask](const Tensor& d_y) {
    DispatchDType(d_y.dtype(), [&](auto zero) {
      using T = decltype(zero);
      kernels::MultiplyAdd(d_y.data<T>(), mask.data<T>(),
                           x.gradient().data<T>(), d_y.elements());
    });
  });
}

Variable SiluGate(Variable a, Variable gate) {
  return Multiply(a, Map(kernels::Unary::kSilu, gate));
}

}  // namespace mneme
