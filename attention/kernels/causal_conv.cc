// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/causal_conv.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

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

// Rows [first, end) of the channels at c. kTap is 0, 1, ... width - 1; folding
// over it, unlike looping, leaves the arrays in registers.
template <class D, class Lanes, typename T, size_t... kTap>
HWY_INLINE void ForwardStrip(const ForwardArguments<T>& a, size_t first,
                             size_t end, D d, size_t c, const Lanes& lanes,
                             std::index_sequence<kTap...>) {
  using V = hn::VFromD<D>;
  constexpr size_t kWidth = sizeof...(kTap);
  const V bias = a.bias ? lanes.Load(a.bias + c) : hn::Zero(d);
  const V weight[] = {lanes.Load(a.w.row(kTap) + c)...};
  // The sums of the next outputs, begun with the rows seen so far. Every row
  // adds to all of them, so no past row needs to be kept.
  V sum[kWidth + 1];
  ((sum[kTap] = bias), ...);
  // Takes a row and returns the output that it completes.
  const auto push = [&](V x) HWY_ATTR {
    ((sum[kTap] = hn::MulAdd(weight[kTap], x, sum[kTap])), ...);
    const V complete = sum[0];
    sum[kWidth] = bias;
    ((sum[kTap] = sum[kTap + 1]), ...);
    return complete;
  };

  for (size_t back = kWidth - 1; back > 0; --back) {
    if (back <= first) {
      push(lanes.Load(a.x.row(first - back) + c));
    } else if (a.history.data != nullptr) {
      push(lanes.Load(a.history.row(kWidth - 1 + first - back) + c));
    }  // else zeros, which would leave the sums at bias
  }
  for (size_t t = first; t < end; ++t) {
    lanes.Store(push(lanes.Load(a.x.row(t) + c)), a.y.row(t) + c);
  }
}

// d_x[t] = sum_j w[j] d_y[t + j], d_w[j] = sum_t d_y[t + j] x[t]: from the last
// row up, with the d_y of the rows just passed in registers.
template <class D, class Lanes, typename T, size_t... kTap>
HWY_INLINE void BackwardStrip(const BackwardArguments<T>& a, size_t first,
                              size_t end, D d, size_t c, const Lanes& lanes,
                              std::index_sequence<kTap...>) {
  using V = hn::VFromD<D>;
  constexpr size_t kWidth = sizeof...(kTap);
  const auto load_row = [&](MatrixView<const T> m, size_t row) HWY_ATTR {
    return row < m.rows ? lanes.Load(m.row(row) + c) : hn::Zero(d);
  };
  const V weight[] = {lanes.Load(a.w.row(kTap) + c)...};
  V d_weight[] = {load_row(a.d_w, kTap)...};
  V d_bias = a.d_bias ? lanes.Load(a.d_bias + c) : hn::Zero(d);
  V d_y[] = {load_row(a.d_y, end + kTap)..., hn::Zero(d)};

  for (size_t t = end; t-- > first;) {
    ((d_y[kWidth - kTap] = d_y[kWidth - 1 - kTap]), ...);
    d_y[0] = lanes.Load(a.d_y.row(t) + c);  // and d_y[j] is that of row t + j
    const V x = lanes.Load(a.x.row(t) + c);
    d_bias = hn::Add(d_bias, d_y[0]);
    ((d_weight[kTap] = hn::MulAdd(d_y[kTap], x, d_weight[kTap])), ...);
    if (a.d_x.data == nullptr) continue;
    V d_x = lanes.Load(a.d_x.row(t) + c);
    ((d_x = hn::MulAdd(d_y[kTap], weight[kTap], d_x)), ...);
    lanes.Store(d_x, a.d_x.row(t) + c);
  }

  if (a.d_bias != nullptr) lanes.Store(d_bias, a.d_bias + c);
  if (a.d_w.data == nullptr) return;
  (lanes.Store(d_weight[kTap], a.d_w.row(kTap) + c), ...);
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

template <size_t kWidth = 1, typename T>
HWY_INLINE void Forward(const ForwardArguments<T>& a) {
  if (a.w.rows == kWidth) {
    const hn::ScalableTag<T> d;
    ForEachStrip(d, a.x.rows, a.x.cols,
                 [&](size_t first, size_t end, size_t c, const auto& lanes)
                     HWY_ATTR {
                       ForwardStrip(a, first, end, d, c, lanes,
                                    std::make_index_sequence<kWidth>());
                     });
  } else if constexpr (kWidth < kMaxWidth) {
    Forward<kWidth + 1>(a);
  } else {
    assert(false);
  }
}

template <size_t kWidth = 1, typename T>
HWY_INLINE void Backward(const BackwardArguments<T>& a) {
  if (a.w.rows == kWidth) {
    const hn::ScalableTag<T> d;
    ForEachStrip(d, a.x.rows, a.x.cols,
                 [&](size_t first, size_t end, size_t c, const auto& lanes)
                     HWY_ATTR {
                       BackwardStrip(a, first, end, d, c, lanes,
                                     std::make_index_sequence<kWidth>());
                     });
  } else if constexpr (kWidth < kMaxWidth) {
    Backward<kWidth + 1>(a);
  } else {
    assert(false);
  }
}

}  // namespace

// Flattened, so that the lambdas above are inlined.
HWY_FLATTEN void ForwardF32(MatrixView<const float> x,
                            MatrixView<const float> w, const float* bias,
                            MatrixView<const float> history,
                            MatrixView<float> y) {
  Forward(ForwardArguments<float>{x, w, bias, history, y});
}

HWY_FLATTEN void ForwardF64(MatrixView<const double> x,
                            MatrixView<const double> w, const double* bias,
                            MatrixView<const double> history,
                            MatrixView<double> y) {
  Forward(ForwardArguments<double>{x, w, bias, history, y});
}

HWY_FLATTEN void BackwardF32(MatrixView<const float> x,
                             MatrixView<const float> w,
                             MatrixView<const float> d_y, MatrixView<float> d_x,
                             MatrixView<float> d_w, float* d_bias) {
  Backward(BackwardArguments<float>{x, w, d_y, d_x, d_w, d_bias});
}

HWY_FLATTEN void BackwardF64(MatrixView<const double> x,
                             MatrixView<const double> w,
                             MatrixView<const double> d_y,
                             MatrixView<double> d_x, MatrixView<double> d_w,
                             double* d_bias) {
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
