// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/cross_entropy.h"

#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/cross_entropy.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace {

// The maximum of a row; any number if the row contains NaN.
template <class D, typename T>
HWY_INLINE T MaxOfRow(D d, const T* x, size_t n) {
  const auto max = [&](auto a, auto b) HWY_ATTR { return hn::Max(a, b); };
  const auto maxima = FoldVectors(
      d, n, hn::Set(d, x[0]),
      [&](auto state, size_t i, const auto& lanes) HWY_ATTR {
        return lanes.KeepElse(hn::Max(state, lanes.Load(x + i)), state);
      },
      max);
  return hn::GetLane(hn::MaxOfLanes(d, maxima));
}

// The first index that holds value; 0 if none does, which only NaN causes.
template <class D, typename T>
HWY_INLINE int32_t FirstIndexOf(D d, const T* x, size_t n, T value) {
  const auto wanted = hn::Set(d, value);
  const size_t step = hn::Lanes(d);
  const auto found = [&](size_t i) HWY_ATTR {
    return hn::Eq(hn::LoadU(d, x + i), wanted);
  };
  size_t i = 0;
  // Four vectors for each branch, as long as the answer is further on.
  for (; i + 4 * step <= n; i += 4 * step) {
    const auto first_half = hn::Or(found(i), found(i + step));
    const auto second_half = hn::Or(found(i + 2 * step), found(i + 3 * step));
    if (!hn::AllFalse(d, hn::Or(first_half, second_half))) break;
  }
  for (; i + step <= n; i += step) {
    const intptr_t lane = hn::FindFirstTrue(d, found(i));
    if (lane >= 0) return static_cast<int32_t>(i + lane);
  }
  for (; i < n; ++i) {
    if (x[i] == value) return static_cast<int32_t>(i);
  }
  return 0;
}

// The sum of e^(x - shift) over a row whose maximum is shift, at least 1. The
// terms are kept for the gradient unless terms is null; it may be x.
template <class D, typename T>
HWY_INLINE T SumOfExp(D d, const T* x, size_t n, T shift, T* terms) {
  const auto max = hn::Set(d, shift);
  return SumVectors(d, n, [&](auto sum, size_t i, const auto& lanes) HWY_ATTR {
    const auto term = FastExpNonPositive(d, hn::Sub(lanes.Load(x + i), max));
    if (terms != nullptr) lanes.Store(term, terms + i);
    return hn::Add(sum, lanes.Keep(term));
  });
}

template <class D, typename T>
HWY_INLINE void ScaleRow(D d, T factor, T* x, size_t n) {
  const auto f = hn::Set(d, factor);
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    lanes.Store(hn::Mul(lanes.Load(x + i), f), x + i);
  });
}

// Three passes over each row, in which it stays in L1: its maximum, the
// exponentials, their scale.
template <typename T>
HWY_INLINE void CrossEntropyRows(MatrixView<const T> logits,
                                 const int32_t* labels, T weight, T* losses,
                                 int32_t* predictions, MatrixView<T> d_logits) {
  const hn::ScalableTag<T> d;
  const size_t n = logits.cols;
  for (size_t r = 0; r < logits.rows; ++r) {
    const T* x = logits.row(r);
    const T max = MaxOfRow(d, x, n);
    if (predictions != nullptr) predictions[r] = FirstIndexOf(d, x, n, max);
    T* gradient = d_logits.data == nullptr ? nullptr : d_logits.row(r);
    if (losses == nullptr && gradient == nullptr) continue;

    const size_t label = static_cast<size_t>(labels[r]);
    assert(label < n);
    const T x_label = x[label];  // before the exponentials may replace it
    const T sum = SumOfExp(d, x, n, max, gradient);
    if (losses != nullptr) losses[r] = std::log(sum) + (max - x_label);
    if (gradient == nullptr) continue;
    ScaleRow(d, weight / sum, gradient, n);
    gradient[label] -= weight;
  }
}

}  // namespace

// Flattened, so that the lambdas above cost nothing.
HWY_FLATTEN void CrossEntropyF32(MatrixView<const float> logits,
                                 const int32_t* labels, float weight,
                                 float* losses, int32_t* predictions,
                                 MatrixView<float> d_logits) {
  CrossEntropyRows(logits, labels, weight, losses, predictions, d_logits);
}

HWY_FLATTEN void CrossEntropyF64(MatrixView<const double> logits,
                                 const int32_t* labels, double weight,
                                 double* losses, int32_t* predictions,
                                 MatrixView<double> d_logits) {
  CrossEntropyRows(logits, labels, weight, losses, predictions, d_logits);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(CrossEntropyF32);
HWY_EXPORT(CrossEntropyF64);

void SoftmaxCrossEntropy(MatrixView<const float> logits, const int32_t* labels,
                         float weight, float* losses, int32_t* predictions,
                         MatrixView<float> d_logits) {
  HWY_DYNAMIC_DISPATCH(CrossEntropyF32)
  (logits, labels, weight, losses, predictions, d_logits);
}

void SoftmaxCrossEntropy(MatrixView<const double> logits, const int32_t* labels,
                         double weight, double* losses, int32_t* predictions,
                         MatrixView<double> d_logits) {
  HWY_DYNAMIC_DISPATCH(CrossEntropyF64)
  (logits, labels, weight, losses, predictions, d_logits);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
