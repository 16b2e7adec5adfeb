// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/norm.h"

#include <cmath>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace {

// Rows go in blocks of four. Each row sums in one chain of additions, and four
// chains hide their latency; gain, bias and their gradients pass between L1 and
// registers once for four rows. A row's result does not depend on its block.
constexpr size_t kRowBlock = 4;

template <typename T>
struct ForwardArguments {
  MatrixView<const T> x;
  const T* gain;
  const T* bias;
  T eps;
  MatrixView<T> y;
  T* mean;
  T* rstd;
};

template <NormKind kKind, size_t kRows, typename T>
HWY_INLINE void ForwardBlock(const ForwardArguments<T>& a, size_t first_row) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t n = a.x.cols;
  const T inverse_n = 1 / static_cast<T>(n);
  const T* x[kRows];
  T* y[kRows];
  V mean[kRows], squares[kRows];
  Unroll<kRows>([&](auto r) HWY_ATTR {
    x[r] = a.x.row(first_row + r);
    y[r] = a.y.row(first_row + r);
    mean[r] = squares[r] = hn::Zero(d);
  });

  const auto centred = [&](auto r, size_t i, const auto& lanes) HWY_ATTR {
    const V v = lanes.Load(x[r] + i);
    if constexpr (kKind == NormKind::kRms) return v;
    return hn::Sub(v, mean[r]);
  };

  if constexpr (kKind == NormKind::kLayer) {
    ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
      Unroll<kRows>([&](auto r) HWY_ATTR {
        mean[r] = hn::Add(mean[r], lanes.Load(x[r] + i));
      });
    });
    Unroll<kRows>([&](auto r) HWY_ATTR {
      const T value = hn::GetLane(hn::SumOfLanes(d, mean[r])) * inverse_n;
      a.mean[first_row + r] = value;
      mean[r] = hn::Set(d, value);
    });
  }

  // Squares of differences from the mean, in a pass of their own: the rows are
  // in L1 now, and E[x^2] - E[x]^2 would cancel when |mean| is large.
  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    Unroll<kRows>([&](auto r) HWY_ATTR {
      const V difference = lanes.Keep(centred(r, i, lanes));
      squares[r] = hn::MulAdd(difference, difference, squares[r]);
    });
  });

  V rstd[kRows];
  Unroll<kRows>([&](auto r) HWY_ATTR {
    const T variance = hn::GetLane(hn::SumOfLanes(d, squares[r])) * inverse_n;
    const T value = 1 / std::sqrt(variance + a.eps);
    a.rstd[first_row + r] = value;
    rstd[r] = hn::Set(d, value);
  });

  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    const V gain = a.gain ? lanes.Load(a.gain + i) : hn::Set(d, T{1});
    const V bias = a.bias ? lanes.Load(a.bias + i) : hn::Zero(d);
    Unroll<kRows>([&](auto r) HWY_ATTR {
      const V x_hat = hn::Mul(centred(r, i, lanes), rstd[r]);
      lanes.Store(hn::MulAdd(x_hat, gain, bias), y[r] + i);
    });
  });
}

template <typename T>
struct BackwardArguments {
  MatrixView<const T> x;
  const T* gain;
  const T* mean;
  const T* rstd;
  MatrixView<const T> d_y;
  MatrixView<T> d_x;
  T* d_gain;
  T* d_bias;
};

// With g = d_y * gain and <.> the mean over the row,
//   d_x = rstd (g - <g> - x_hat <g x_hat>), where RMS norm has no <g>.
template <NormKind kKind, size_t kRows, typename T>
HWY_INLINE void BackwardBlock(const BackwardArguments<T>& a, size_t first_row) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t n = a.x.cols;
  const T* x[kRows];
  const T* d_y[kRows];
  T* d_x[kRows];
  V mean[kRows], rstd[kRows], sum_g[kRows], sum_g_x_hat[kRows];
  Unroll<kRows>([&](auto r) HWY_ATTR {
    const size_t row = first_row + r;
    x[r] = a.x.row(row);
    d_y[r] = a.d_y.row(row);
    d_x[r] = a.d_x.row(row);
    if constexpr (kKind == NormKind::kLayer) mean[r] = hn::Set(d, a.mean[row]);
    rstd[r] = hn::Set(d, a.rstd[row]);
    sum_g[r] = sum_g_x_hat[r] = hn::Zero(d);
  });

  const auto x_hat = [&](auto r, size_t i, const auto& lanes) HWY_ATTR {
    const V v = lanes.Load(x[r] + i);
    if constexpr (kKind == NormKind::kRms) return hn::Mul(v, rstd[r]);
    return hn::Mul(hn::Sub(v, mean[r]), rstd[r]);
  };
  const auto load_gain = [&](size_t i, const auto& lanes) HWY_ATTR {
    return a.gain ? lanes.Load(a.gain + i) : hn::Set(d, T{1});
  };

  if (a.d_x.data != nullptr) {
    ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
      const V gain = load_gain(i, lanes);
      // Outside the array d_y loads as 0, and g with it.
      Unroll<kRows>([&](auto r) HWY_ATTR {
        const V g = hn::Mul(lanes.Load(d_y[r] + i), gain);
        if constexpr (kKind == NormKind::kLayer) {
          sum_g[r] = hn::Add(sum_g[r], g);
        }
        sum_g_x_hat[r] = hn::MulAdd(g, x_hat(r, i, lanes), sum_g_x_hat[r]);
      });
    });
  }

  // From sums to the coefficients of 1 and x_hat in d_x.
  V constant[kRows], slope[kRows];
  const T inverse_n = 1 / static_cast<T>(n);
  Unroll<kRows>([&](auto r) HWY_ATTR {
    const V factor = hn::Mul(rstd[r], hn::Set(d, -inverse_n));
    constant[r] = hn::Mul(hn::SumOfLanes(d, sum_g[r]), factor);
    slope[r] = hn::Mul(hn::SumOfLanes(d, sum_g_x_hat[r]), factor);
  });

  ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
    const V gain = load_gain(i, lanes);
    V d_gain = a.d_gain ? lanes.Load(a.d_gain + i) : hn::Zero(d);
    V d_bias = a.d_bias ? lanes.Load(a.d_bias + i) : hn::Zero(d);
    Unroll<kRows>([&](auto r) HWY_ATTR {
      const V normal = x_hat(r, i, lanes);
      const V dy = lanes.Load(d_y[r] + i);
      d_gain = hn::MulAdd(dy, normal, d_gain);
      d_bias = hn::Add(d_bias, dy);
      if (a.d_x.data == nullptr) return;
      V sum = lanes.Load(d_x[r] + i);
      if constexpr (kKind == NormKind::kLayer) sum = hn::Add(sum, constant[r]);
      sum = hn::MulAdd(normal, slope[r], sum);
      lanes.Store(hn::MulAdd(hn::Mul(dy, gain), rstd[r], sum), d_x[r] + i);
    });
    if (a.d_gain) lanes.Store(d_gain, a.d_gain + i);
    if (a.d_bias) lanes.Store(d_bias, a.d_bias + i);
  });
}

template <NormKind kKind, typename T>
HWY_INLINE void ForwardRows(const ForwardArguments<T>& a) {
  size_t row = 0;
  for (; row + kRowBlock <= a.x.rows; row += kRowBlock) {
    ForwardBlock<kKind, kRowBlock>(a, row);
  }
  for (; row < a.x.rows; ++row) ForwardBlock<kKind, 1>(a, row);
}

template <NormKind kKind, typename T>
HWY_INLINE void BackwardRows(const BackwardArguments<T>& a) {
  size_t row = 0;
  for (; row + kRowBlock <= a.x.rows; row += kRowBlock) {
    BackwardBlock<kKind, kRowBlock>(a, row);
  }
  for (; row < a.x.rows; ++row) BackwardBlock<kKind, 1>(a, row);
}

template <typename T>
HWY_INLINE void Forward(NormKind kind, const ForwardArguments<T>& a) {
  if (kind == NormKind::kLayer) {
    ForwardRows<NormKind::kLayer>(a);
  } else {
    ForwardRows<NormKind::kRms>(a);
  }
}

template <typename T>
HWY_INLINE void Backward(NormKind kind, const BackwardArguments<T>& a) {
  if (kind == NormKind::kLayer) {
    BackwardRows<NormKind::kLayer>(a);
  } else {
    BackwardRows<NormKind::kRms>(a);
  }
}

}  // namespace

HWY_FLATTEN void ForwardF32(NormKind kind, MatrixView<const float> x,
                            const float* gain, const float* bias, float eps,
                            MatrixView<float> y, float* mean, float* rstd) {
  Forward<float>(kind, {x, gain, bias, eps, y, mean, rstd});
}

HWY_FLATTEN void ForwardF64(NormKind kind, MatrixView<const double> x,
                            const double* gain, const double* bias, double eps,
                            MatrixView<double> y, double* mean, double* rstd) {
  Forward<double>(kind, {x, gain, bias, eps, y, mean, rstd});
}

HWY_FLATTEN void BackwardF32(NormKind kind, MatrixView<const float> x,
                             const float* gain, const float* mean,
                             const float* rstd, MatrixView<const float> d_y,
                             MatrixView<float> d_x, float* d_gain,
                             float* d_bias) {
  Backward<float>(kind, {x, gain, mean, rstd, d_y, d_x, d_gain, d_bias});
}

HWY_FLATTEN void BackwardF64(NormKind kind, MatrixView<const double> x,
                             const double* gain, const double* mean,
                             const double* rstd, MatrixView<const double> d_y,
                             MatrixView<double> d_x, double* d_gain,
                             double* d_bias) {
  Backward<double>(kind, {x, gain, mean, rstd, d_y, d_x, d_gain, d_bias});
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

void NormForward(NormKind kind, MatrixView<const float> x, const float* gain,
                 const float* bias, float eps, MatrixView<float> y, float* mean,
                 float* rstd) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(kind, x, gain, bias, eps, y, mean, rstd);
}

void NormForward(NormKind kind, MatrixView<const double> x, const double* gain,
                 const double* bias, double eps, MatrixView<double> y,
                 double* mean, double* rstd) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(kind, x, gain, bias, eps, y, mean, rstd);
}

void NormBackward(NormKind kind, MatrixView<const float> x, const float* gain,
                  const float* mean, const float* rstd,
                  MatrixView<const float> d_y, MatrixView<float> d_x,
                  float* d_gain, float* d_bias) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)
  (kind, x, gain, mean, rstd, d_y, d_x, d_gain, d_bias);
}

void NormBackward(NormKind kind, MatrixView<const double> x, const double* gain,
                  const double* mean, const double* rstd,
                  MatrixView<const double> d_y, MatrixView<double> d_x,
                  double* d_gain, double* d_bias) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)
  (kind, x, gain, mean, rstd, d_y, d_x, d_gain, d_bias);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
