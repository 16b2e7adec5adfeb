// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/token_shift.h"

#include <algorithm>
#include <utility>

#include "attention/kernels/vector_math.h"
#include "attention/tensor/ops.h"

namespace mneme {
namespace {

// The mixture as a causal convolution of two taps, 1 - mu and mu.
Variable Taps(Variable mu) {
  const int64_t channels = mu.value().elements();
  Tensor taps = mu.tape()->New({2, channels});
  DispatchDType(taps.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = mu.value().data<T>();
    T* to = taps.data<T>();
    for (int64_t c = 0; c < channels; ++c) {
      to[c] = 1 - from[c];
      to[channels + c] = from[c];
    }
  });
  return mu.tape()->Record(std::move(taps), {mu},
                           [mu, channels](const Tensor& d_taps) {
                             DispatchDType(d_taps.dtype(), [&](auto zero) {
                               using T = decltype(zero);
                               const T* from = d_taps.data<T>();
                               T* to = mu.gradient().data<T>();
                               for (int64_t c = 0; c < channels; ++c) {
                                 to[c] += from[channels + c] - from[c];
                               }
                             });
                           });
}

}  // namespace

std::unique_ptr<State> NewTokenShiftState(int64_t batch, int64_t channels,
                                          DType dtype) {
  return std::make_unique<DenseState>(dtype, Shape({batch, channels}));
}

Variable TokenShiftDifference(Variable x, State* state) {
  if (!x.valid()) return x;
  const int64_t batch = x.shape().dim(0), length = x.shape().dim(1),
                channels = x.shape().dim(2);
  // Of all channels of a sequence but those of its first or last token.
  const int64_t sequence = length * channels, rest = sequence - channels;
  Tensor y = x.tape()->New(x.shape());
  y.FillZero();
  DispatchDType(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.value().data<T>();
    T* to = y.data<T>();
    T* last = state == nullptr
                  ? nullptr
                  : static_cast<DenseState*>(state)->tensor().data<T>();
    for (int64_t b = 0; b < batch; ++b) {
      if (last != nullptr) {
        std::copy_n(last, channels, to);
        std::copy_n(from + rest, channels, last);
        last += channels;
      }
      std::copy_n(from, rest, to + channels);
      kernels::Axpy(T{-1}, from, to, sequence);
      from += sequence;
      to += sequence;
    }
  });
  if (state != nullptr) return x.tape()->Input(std::move(y));
  return x.tape()->Record(
      std::move(y), {x}, [x, batch, sequence, rest, channels](const Tensor& d) {
        DispatchDType(d.dtype(), [&](auto zero) {
          using T = decltype(zero);
          const T* from = d.data<T>();
          T* to = x.gradient().data<T>();
          for (int64_t b = 0; b < batch; ++b) {
            kernels::Axpy(T{-1}, from, to, sequence);
            kernels::Axpy(T{1}, from + channels, to, rest);
            from += sequence;
            to += sequence;
          }
        });
      });
}

Variable TokenShift(Variable x, Variable mu, const State* state) {
  if (!x.valid() || !mu.valid()) return {};
  Tensor history;
  if (state != nullptr) {
    const Tensor& last = static_cast<const DenseState*>(state)->tensor();
    history = last.Reshaped({last.dim(0), 1, last.dim(1)});
  }
  return CausalConv(x, Taps(mu), {}, history);
}

void AdvanceTokenShift(Variable x, State* state) {
  if (!x.valid() || state == nullptr) return;
  const int64_t batch = x.shape().dim(0), length = x.shape().dim(1),
                channels = x.shape().dim(2);
  const Tensor& last = static_cast<DenseState*>(state)->tensor();
  if (last.shape() != Shape({batch, channels})) return;  // TokenShift said so
  DispatchDType(last.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (int64_t b = 0; b < batch; ++b) {
      std::copy_n(x.value().data<T>() + ((b + 1) * length - 1) * channels,
                  channels, last.data<T>() + b * channels);
    }
  });
}

}  // namespace mneme
