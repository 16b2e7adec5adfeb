// SPDX-License-Identifier: Apache-2.0

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "gtest/gtest.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/exp_test.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {

// y[i] = function(d, x[i]). Tails are padded with the last element.
template <typename T, class Function>
void Apply(const T* x, T* y, size_t n, Function function) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  std::vector<T> block(lanes);
  for (size_t i = 0; i < n; i += lanes) {
    for (size_t j = 0; j < lanes; ++j) block[j] = x[i + j < n ? i + j : n - 1];
    hn::StoreU(function(d, hn::LoadU(d, block.data())), d, block.data());
    for (size_t j = 0; j < lanes && i + j < n; ++j) y[i + j] = block[j];
  }
}

template <typename T>
void Exp(const T* x, T* y, size_t n) {
  Apply(x, y, n, [](auto d, auto v) HWY_ATTR { return FastExp(d, v); });
}
template <typename T>
void ExpNonPositive(const T* x, T* y, size_t n) {
  Apply(x, y, n,
        [](auto d, auto v) HWY_ATTR { return FastExpNonPositive(d, v); });
}
template <typename T>
void Exp2NonPositive(const T* x, T* y, size_t n) {
  Apply(x, y, n,
        [](auto d, auto v) HWY_ATTR { return FastExp2NonPositive(d, v); });
}

// HWY_EXPORT wants plain names.
void ExpF32(const float* x, float* y, size_t n) { Exp(x, y, n); }
void ExpF64(const double* x, double* y, size_t n) { Exp(x, y, n); }
void ExpNonPositiveF32(const float* x, float* y, size_t n) {
  ExpNonPositive(x, y, n);
}
void ExpNonPositiveF64(const double* x, double* y, size_t n) {
  ExpNonPositive(x, y, n);
}
void Exp2NonPositiveF32(const float* x, float* y, size_t n) {
  Exp2NonPositive(x, y, n);
}
void Exp2NonPositiveF64(const double* x, double* y, size_t n) {
  Exp2NonPositive(x, y, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {
namespace {

HWY_EXPORT(ExpF32);
HWY_EXPORT(ExpF64);
HWY_EXPORT(ExpNonPositiveF32);
HWY_EXPORT(ExpNonPositiveF64);
HWY_EXPORT(Exp2NonPositiveF32);
HWY_EXPORT(Exp2NonPositiveF64);

void RunExp(const std::vector<float>& x, std::vector<float>& y) {
  HWY_DYNAMIC_DISPATCH(ExpF32)(x.data(), y.data(), x.size());
}
void RunExp(const std::vector<double>& x, std::vector<double>& y) {
  HWY_DYNAMIC_DISPATCH(ExpF64)(x.data(), y.data(), x.size());
}
void RunExpNonPositive(const std::vector<float>& x, std::vector<float>& y) {
  HWY_DYNAMIC_DISPATCH(ExpNonPositiveF32)(x.data(), y.data(), x.size());
}
void RunExpNonPositive(const std::vector<double>& x, std::vector<double>& y) {
  HWY_DYNAMIC_DISPATCH(ExpNonPositiveF64)(x.data(), y.data(), x.size());
}
void RunExp2NonPositive(const std::vector<float>& x, std::vector<float>& y) {
  HWY_DYNAMIC_DISPATCH(Exp2NonPositiveF32)(x.data(), y.data(), x.size());
}
void RunExp2NonPositive(const std::vector<double>& x, std::vector<double>& y) {
  HWY_DYNAMIC_DISPATCH(Exp2NonPositiveF64)(x.data(), y.data(), x.size());
}

template <typename T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr double kRelativeError = 2e-7;
  static constexpr double kLeastNormal = -87.3365;    // ln FLT_MIN
  static constexpr double kGreatestFinite = 88.7228;  // ln FLT_MAX
};
template <>
struct Limits<double> {
  static constexpr double kRelativeError = 1e-15;
  static constexpr double kLeastNormal = -708.3964;
  static constexpr double kGreatestFinite = 709.7827;
};

// Evenly spaced, but with irregular low bits.
template <typename T>
std::vector<T> DenseRange(double low, double high) {
  constexpr size_t kPoints = 50021;
  std::vector<T> x(kPoints);
  for (size_t i = 0; i < kPoints; ++i) {
    x[i] = static_cast<T>(low + (high - low) * i / (kPoints - 1));
  }
  return x;
}

// The same function in higher precision than T.
long double Exact(long double x) { return std::exp(x); }
long double Exact2(long double x) { return std::exp2(x); }

template <typename T>
void ExpectAccurate(const std::vector<T>& x, const std::vector<T>& y,
                    long double (*exact)(long double)) {
  double worst = 0;
  T worst_x = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const long double want = exact(x[i]);
    const double error = static_cast<double>(std::abs((y[i] - want) / want));
    if (!(error <= worst)) {
      worst = error;
      worst_x = x[i];
    }
  }
  EXPECT_LE(worst, Limits<T>::kRelativeError) << "at " << worst_x;
}

template <typename T>
class ExpTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(ExpTest, Types);

TYPED_TEST(ExpTest, AccurateOverTheNormalRange) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    for (const double low : {Limits<T>::kLeastNormal, -2.0}) {
      const double high = low == -2.0 ? 2.0 : Limits<T>::kGreatestFinite;
      const std::vector<T> x = DenseRange<T>(low, high);
      std::vector<T> y(x.size());
      RunExp(x, y);
      ExpectAccurate(x, y, Exact);
    }
  });
}

TYPED_TEST(ExpTest, NonPositiveAccurateOverTheNormalRange) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    for (const double low : {Limits<T>::kLeastNormal, -2.0}) {
      const std::vector<T> x = DenseRange<T>(low, 0);
      std::vector<T> y(x.size());
      RunExpNonPositive(x, y);
      ExpectAccurate(x, y, Exact);
    }
  });
}

TYPED_TEST(ExpTest, BaseTwoAccurateOverTheNormalRange) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    constexpr double kLowest = std::numeric_limits<T>::min_exponent - 1;
    // Slightly positive arguments come from rounding.
    for (const double low : {kLowest, -2.0}) {
      const std::vector<T> z = DenseRange<T>(low, 0.1);
      std::vector<T> y(z.size());
      RunExp2NonPositive(z, y);
      ExpectAccurate(z, y, Exact2);
    }
  });
}

TYPED_TEST(ExpTest, SpecialValues) {
  using T = TypeParam;
  constexpr T kInf = std::numeric_limits<T>::infinity();
  constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();
  constexpr T kMax = std::numeric_limits<T>::max();
  // A NaN whose payload fills the bits that exponents are computed in.
  T payload = kNaN;
  uint16_t low_bits = 0xFFFF;
  std::memcpy(&payload, &low_bits, sizeof(low_bits));
  ASSERT_TRUE(std::isnan(payload));
  ForEachSimdTarget([&] {
    const T low = static_cast<T>(Limits<T>::kLeastNormal) - T{0.01};
    const T high = static_cast<T>(Limits<T>::kGreatestFinite) + T{0.01};
    std::vector<T> x = {0,    -T{0},   low,  -1000, -kMax, -kInf,
                        kNaN, payload, high, 1000,  kMax,  kInf};
    std::vector<T> y(x.size());
    RunExp(x, y);
    EXPECT_EQ(y[0], 1);
    EXPECT_EQ(y[1], 1);
    for (int i : {2, 3, 4, 5}) EXPECT_EQ(y[i], 0) << x[i];
    for (int i : {6, 7}) EXPECT_TRUE(std::isnan(y[i])) << y[i];
    for (int i : {8, 9, 10, 11}) EXPECT_EQ(y[i], kInf) << x[i];

    x.resize(8);
    x[2] = -2000;
    y.assign(x.size(), -1);
    RunExpNonPositive(x, y);
    EXPECT_EQ(y[0], 1);
    EXPECT_EQ(y[1], 1);
    for (int i : {2, 4, 5}) EXPECT_EQ(y[i], 0) << x[i];
    for (int i : {6, 7}) EXPECT_TRUE(std::isnan(y[i])) << y[i];

    y.assign(x.size(), -1);
    RunExp2NonPositive(x, y);
    EXPECT_EQ(y[0], 1);
    EXPECT_EQ(y[1], 1);
    for (int i : {2, 4, 5}) EXPECT_EQ(y[i], 0) << x[i];
    for (int i : {6, 7}) EXPECT_TRUE(std::isnan(y[i])) << y[i];
  });
}

}  // namespace
}  // namespace mneme::kernels
#endif  // HWY_ONCE
