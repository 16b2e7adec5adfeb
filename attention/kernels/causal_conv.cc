// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/causal_conv.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/causal_conv.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kMaxWidth = 8;

// Channels stand in lanes. One vector of channels goes down the rows, with its
// weights in registers and each row loaded once. After this many rows the next
// channels follow, so that on long sequences the lines and pages of a piece are
// used up while they are in L1 and in the TLB.
constexpr size_t kRowsPerPiece = 64;

template <typename T>
struct ForwardArguments {
  MatrixView<const T> x, w;
  const T* bias;
  MatrixView<const T> history;
  MatrixView<T> y;
};

template <typename T>
struct BackwardArguments {
  MatrixView<const T> x, w, d_y;
  MatrixView<T> d_x, d_w;
  T* d_bias;
};

// Rows [first, end) of the channels at c.
template <size_t kWidth, class D, class Lanes, typename T>
HWY_INLINE void ForwardStrip(const ForwardArguments<T>& a, size_t first,
                             size_t end, D d, size_t c, const Lanes& lanes) {
  using V = hn::VFromD<D>;
  const V bias = a.bias ? lanes.Load(a.bias + c) : hn::Zero(d);
  V weight[kWidth];
  // The sums of the next kWidth outputs, begun with the rows seen so far. Every
  // row adds to all of them, so no past row needs to be kept.
  V sum[kWidth];
  Unroll<kWidth>([&](auto j) HWY_ATTR {
    weight[j] = lanes.Load(a.w.row(j) + c);
    sum[j] = bias;
  });
  // Takes a row and returns the output that it completes.
  const auto push = [&](V x) HWY_ATTR {
    const V complete = hn::MulAdd(weight[0], x, sum[0]);
    Unroll<kWidth - 1>([&](auto j) HWY_ATTR {
      sum[j] = hn::MulAdd(weight[j + 1], x, sum[j + 1]);
    });
    sum[kWidth - 1] = bias;
    return complete;
  };

  for (size_t back = kWidth - 1; back > 0; --back) {
    if (back <= first) {
      push(lanes.Load(a.x.row(first - back) + c));
    } else if (a.history.data != nullptr) {
      push(lanes.Load(a.history.row(kWidth - 1 + first - back) + c));
    }  // else zeros, which would leave the sums at bias
  }
  const T* x = a.x.row(first) + c;
  T* y = a.y.row(first) + c;
  for (size_t t = first; t < end; ++t) {
    lanes.Store(push(lanes.Load(x)), y);
    x += a.x.stride;
    y += a.y.stride;
  }
}

// d_x[t] = sum_j w[j] d_y[t + j], d_w[j] = sum_t d_y[t + j] x[t]: from the last
// row up, with the d_y of the last kWidth rows in registers.
template <size_t kWidth, class D, class Lanes, typename T>
HWY_INLINE void BackwardStrip(const BackwardArguments<T>& a, size_t first,
                              size_t end, D d, size_t c, const Lanes& lanes) {
  using V = hn::VFromD<D>;
  V weight[kWidth], d_weight[kWidth];
  V ahead[kWidth];  // ahead[j] = d_y[t + j]
  V d_bias = a.d_bias ? lanes.Load(a.d_bias + c) : hn::Zero(d);
  Unroll<kWidth>([&](auto j) HWY_ATTR {
    weight[j] = lanes.Load(a.w.row(j) + c);
    d_weight[j] = a.d_w.data ? lanes.Load(a.d_w.row(j) + c) : hn::Zero(d);
    // Still for t = end; the loop begins by moving on to end - 1.
    ahead[j] =
        end + j < a.x.rows ? lanes.Load(a.d_y.row(end + j) + c) : hn::Zero(d);
  });

  for (size_t t = end; t-- > first;) {
    Unroll<kWidth - 1>([&](auto j) HWY_ATTR {
      ahead[kWidth - 1 - j] = ahead[kWidth - 2 - j];
    });
    ahead[0] = lanes.Load(a.d_y.row(t) + c);
    const V x = lanes.Load(a.x.row(t) + c);
    d_bias = hn::Add(d_bias, ahead[0]);
    Unroll<kWidth>([&](auto j) HWY_ATTR {
      d_weight[j] = hn::MulAdd(ahead[j], x, d_weight[j]);
    });
    if (a.d_x.data == nullptr) continue;
    V d_x = lanes.Load(a.d_x.row(t) + c);
    Unroll<kWidth>(
        [&](auto j) HWY_ATTR { d_x = hn::MulAdd(ahead[j], weight[j], d_x); });
    lanes.Store(d_x, a.d_x.row(t) + c);
  }

  if (a.d_bias != nullptr) lanes.Store(d_bias, a.d_bias + c);
  if (a.d_w.data == nullptr) return;
  Unroll<kWidth>([&](auto j)
                     HWY_ATTR { lanes.Store(d_weight[j], a.d_w.row(j) + c); });
}

// Calls strip(first, end, c, lanes) so that rows x channels are covered.
template <class D, class Strip>
HWY_INLINE void ForEachStrip(D d, size_t rows, size_t channels,
                             const Strip& strip) {
  for (size_t first = 0; first < rows; first += kRowsPerPiece) {
    const size_t end = std::min(first + kRowsPerPiece, rows);
    ForEachVector(d, channels, [&](size_t c, const auto& lanes) HWY_ATTR {
      strip(first, end, c, lanes);
    });
  }
}

// One function for each width and flattened, so that the lambdas are inlined
// and everything they share is in registers.
template <size_t kWidth, typename T>
HWY_FLATTEN void ForwardWidth(const ForwardArguments<T>& a) {
  const hn::ScalableTag<T> d;
  ForEachStrip(
      d, a.x.rows, a.x.cols,
      [&](size_t first, size_t end, size_t c, const auto& lanes)
          HWY_ATTR { ForwardStrip<kWidth>(a, first, end, d, c, lanes); });
}

template <size_t kWidth, typename T>
HWY_FLATTEN void BackwardWidth(const BackwardArguments<T>& a) {
  const hn::ScalableTag<T> d;
  ForEachStrip(
      d, a.x.rows, a.x.cols,
      [&](size_t first, size_t end, size_t c, const auto& lanes)
          HWY_ATTR { BackwardStrip<kWidth>(a, first, end, d, c, lanes); });
}

template <size_t kWidth = 1, typename T>
void Forward(const ForwardArguments<T>& a) {
  if (a.w.rows == kWidth) {
    ForwardWidth<kWidth>(a);
  } else if constexpr (kWidth < kMaxWidth) {
    Forward<kWidth + 1>(a);
  } else {
    assert(false);
  }
}

template <size_t kWidth = 1, typename T>
void Backward(const BackwardArguments<T>& a) {
  if (a.w.rows == kWidth) {
    BackwardWidth<kWidth>(a);
  } else if constexpr (kWidth < kMaxWidth) {
    Backward<kWidth + 1>(a);
  } else {
    assert(false);
  }
}

}  // namespace

void ForwardF32(MatrixView<const float> x, MatrixView<const float> w,
                const float* bias, MatrixView<const float> history,
                MatrixView<float> y) {
  Forward(ForwardArguments<float>{x, w, bias, history, y});
}

void ForwardF64(MatrixView<const double> x, MatrixView<const double> w,
                const double* bias, MatrixView<const double> history,
                MatrixView<double> y) {
  Forward(ForwardArguments<double>{x, w, bias, history, y});
}

void BackwardF32(MatrixView<const float> x, MatrixView<const float> w,
                 MatrixView<const float> d_y, MatrixView<float> d_x,
                 MatrixView<float> d_w, float* d_bias) {
  Backward(BackwardArguments<float>{x, w, d_y, d_x, d_w, d_bias});
}

void BackwardF64(MatrixView<const double> x, MatrixView<const double> w,
                 MatrixView<const double> d_y, MatrixView<double> d_x,
                 MatrixView<double> d_w, double* d_bias) {
  Backward(BackwardArguments<double>{x, w, d_y, d_x, d_w, d_bias});
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardF64);

void CausalConvForward(MatrixView<const float> x, MatrixView<const float> w,
                       const float* bias, MatrixView<const float> history,
                       MatrixView<float> y) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(x, w, bias, history, y);
}

void CausalConvForward(MatrixView<const double> x, MatrixView<const double> w,
                       const double* bias, MatrixView<const double> history,
                       MatrixView<double> y) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(x, w, bias, history, y);
}

void CausalConvBackward(MatrixView<const float> x, MatrixView<const float> w,
                        MatrixView<const float> d_y, MatrixView<float> d_x,
                        MatrixView<float> d_w, float* d_bias) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)(x, w, d_y, d_x, d_w, d_bias);
}

void CausalConvBackward(MatrixView<const double> x, MatrixView<const double> w,
                        MatrixView<const double> d_y, MatrixView<double> d_x,
                        MatrixView<double> d_w, double* d_bias) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)(x, w, d_y, d_x, d_w, d_bias);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
