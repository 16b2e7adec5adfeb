// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/vector_math.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The oracles compute in long double, so that they are right to the last bit of
// double.
using Wide = long double;

struct Function {
  Unary id;
  std::string name;
  std::function<Wide(Wide)> value;
};

Wide SigmoidOf(Wide x) { return 1 / (1 + std::exp(-x)); }

Wide GeluOf(Wide x) {
  if (x == -kInfinity) return 0;
  const Wide pi = std::acos(Wide{-1});
  return x / 2 *
         (1 + std::tanh(std::sqrt(2 / pi) * (x + 0.044715L * x * x * x)));
}

std::vector<Function> Functions() {
  return {
      {Unary::kExp, "Exp", [](Wide x) { return std::exp(x); }},
      {Unary::kSigmoid, "Sigmoid", SigmoidOf},
      {Unary::kSilu, "Silu",
       [](Wide x) { return x == -kInfinity ? 0 : x * SigmoidOf(x); }},
      {Unary::kGelu, "Gelu", GeluOf},
      {Unary::kRelu, "Relu", [](Wide x) { return x < 0 ? 0 : x; }},
      {Unary::kTanh, "Tanh", [](Wide x) { return std::tanh(x); }},
      {Unary::kSoftplus, "Softplus",
       [](Wide x) {
         return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
       }},
      {Unary::kLogSigmoid, "LogSigmoid",
       [](Wide x) {
         return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
       }},
      {Unary::kEluPlusOne, "EluPlusOne",
       [](Wide x) { return x > 0 ? x + 1 : std::exp(x); }},
      {Unary::kSquare, "Square", [](Wide x) { return x * x; }},
      {Unary::kSin, "Sin", [](Wide x) { return std::sin(x); }},
  };
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-6 : 1e-14;

// Lengths around one and several vectors of every target.
std::vector<size_t> Lengths() {
  std::vector<size_t> lengths;
  for (size_t n = 0; n <= 36; ++n) lengths.push_back(n);
  for (const size_t n : {63, 64, 65, 127, 129, 1000}) lengths.push_back(n);
  return lengths;
}

// Where the functions bend, where their approximations switch, where they
// saturate and overflow, and magnitudes from tiny to huge.
template <typename T>
std::vector<T> Arguments() {
  std::vector<T> x;
  for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<T>(i) / 40);
  for (int i = -1000; i <= 1000; ++i) x.push_back(static_cast<T>(i) / 2000);
  for (int e = -60; e <= 20; ++e) {
    x.push_back(std::ldexp(T(1.37), e));
    x.push_back(-x.back());
  }
  x.push_back(-T(0));
  const std::vector<T> random = RandomValues<T>(2000, 5, 4);
  x.insert(x.end(), random.begin(), random.end());
  return x;
}

template <typename T>
class VectorMathTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(VectorMathTest, Types);

TYPED_TEST(VectorMathTest, MapIsAccurate) {
  using T = TypeParam;
  constexpr double kMin = std::numeric_limits<T>::min();
  const std::vector<T> x = Arguments<T>();
  for (const Function& f : Functions()) {
    Doubles expected;
    for (const T value : x) {
      expected.push_back(static_cast<double>(f.value(value)));
      if (expected.back() > std::numeric_limits<T>::max()) {
        expected.back() = kInfinity;
      }
    }
    // Relative accuracy where nothing cancels; the functions that multiply a
    // tail by x or feed it a cubic, and the periodic one, have it absolutely
    // only.
    const bool relative_only = f.id != Unary::kGelu && f.id != Unary::kSin;
    ForEachSimdTarget([&] {
      std::vector<T> y(x.size());
      Map(f.id, x.data(), y.data(), x.size());
      ExpectNear(expected, y, kTolerance<T>,
                 relative_only ? 128 * kMin : kTolerance<T>, f.name.c_str());
    });
  }
}

TYPED_TEST(VectorMathTest, ExpIsWithinFourUlp) {
  using T = TypeParam;
  std::vector<T> x;
  // Almost all of the range in which the result is normal.
  const double low = std::log(double{std::numeric_limits<T>::min()});
  const double high = std::log(double{std::numeric_limits<T>::max()});
  constexpr int kSteps = 100000;
  for (int i = 1; i < kSteps; ++i) {
    x.push_back(static_cast<T>(low + (high - low) * i / kSteps));
  }
  ForEachSimdTarget([&] {
    std::vector<T> y(x.size());
    Map(Unary::kExp, x.data(), y.data(), x.size());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const Wide exact = std::exp(static_cast<Wide>(x[i]));
      const T rounded = static_cast<T>(exact);
      const T ulp =
          std::nextafter(rounded, std::numeric_limits<T>::infinity()) - rounded;
      const Wide error = std::abs(static_cast<Wide>(y[i]) - rounded) / ulp;
      worst = std::max(worst, static_cast<double>(error));
    }
    EXPECT_LE(worst, 4);
  });
}

TYPED_TEST(VectorMathTest, MapAtTheEdges) {
  using T = TypeParam;
  constexpr T kInf = std::numeric_limits<T>::infinity();
  constexpr T kNan = std::numeric_limits<T>::quiet_NaN();
  constexpr T kMax = std::numeric_limits<T>::max();
  // So many copies that every lane and the remainder see each of them.
  constexpr size_t kCopies = 37;
  for (const Function& f : Functions()) {
    for (const T argument : {-kInf, -kMax, kMax, kInf, kNan}) {
      // No function of a NaN, and the limit of Gelu's cubic at +-max.
      const double expected = static_cast<double>(
          std::isnan(argument) ? Wide{argument} : f.value(Wide{argument}));
      const double wanted = expected > double{kMax} ? kInfinity : expected;
      ForEachSimdTarget([&] {
        const std::vector<T> x(kCopies, argument);
        std::vector<T> y(kCopies);
        Map(f.id, x.data(), y.data(), kCopies);
        ExpectNear(Doubles(kCopies, wanted), y, kTolerance<T>, 0,
                   (f.name + " of " + std::to_string(argument)).c_str());
      });
    }
  }
  // Flushing to zero at the least normal number.
  ForEachSimdTarget([&] {
    const T tiny = std::log(std::numeric_limits<T>::min()) * T(1.001);
    const std::vector<T> x(kCopies, tiny);
    std::vector<T> y(kCopies, 1);
    Map(Unary::kExp, x.data(), y.data(), kCopies);
    EXPECT_EQ(y, std::vector<T>(kCopies, 0));
  });
}

TYPED_TEST(VectorMathTest, MapOfAnyLengthAndInPlace) {
  using T = TypeParam;
  const std::vector<T> x = RandomValues<T>(1001, 1);
  for (const Function& f : Functions()) {
    ForEachSimdTarget([&] {
      std::vector<T> whole(1000);
      Map(f.id, x.data() + 1, whole.data(), 1000);
      for (const size_t n : Lengths()) {
        std::vector<T> y(n + 1, 7);
        Map(f.id, x.data() + 1, y.data(), n);
        EXPECT_TRUE(std::equal(y.begin(), y.end() - 1, whole.begin()));
        EXPECT_EQ(y.back(), 7) << "wrote beyond the end";
        std::vector<T> in_place(x.begin() + 1, x.begin() + 1 + n);
        Map(f.id, in_place.data(), in_place.data(), n);
        EXPECT_TRUE(
            std::equal(in_place.begin(), in_place.end(), whole.begin()));
      }
    });
  }
}

TYPED_TEST(VectorMathTest, MapBackwardMatchesCentralDifferences) {
  using T = TypeParam;
  constexpr double kStep = 1e-6;
  constexpr size_t kCount = 500;
  std::vector<T> x = RandomValues<T>(kCount, 2, 3);
  // Not near the kink of Relu, where the difference is neither derivative.
  for (T& value : x) {
    if (std::abs(value) < 1e-3) value = 1;
  }
  const std::vector<T> dy = RandomValues<T>(kCount, 3);
  const std::vector<T> start = RandomValues<T>(kCount, 4);
  for (const Function& f : Functions()) {
    Doubles expected;
    for (size_t i = 0; i < kCount; ++i) {
      const double slope = static_cast<double>(
          (f.value(Wide{x[i]} + kStep) - f.value(Wide{x[i]} - kStep)) /
          (2 * kStep));
      expected.push_back(start[i] + dy[i] * slope);
    }
    ForEachSimdTarget([&] {
      std::vector<T> dx = start;
      MapBackward(f.id, x.data(), dy.data(), dx.data(), kCount);
      ExpectNear(expected, dx, sizeof(T) == 4 ? 1e-6 : 1e-9, 3e-6,
                 f.name.c_str());
      for (const size_t n : Lengths()) {
        if (n > kCount) continue;
        std::vector<T> part(start.begin(), start.begin() + n);
        MapBackward(f.id, x.data(), dy.data(), part.data(), n);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), dx.begin()));
      }
    });
  }
}

TYPED_TEST(VectorMathTest, DerivativesAtKinksAndFarOut) {
  using T = TypeParam;
  struct Case {
    Unary id;
    T x;
    T derivative;
  };
  const Case cases[] = {
      {Unary::kRelu, 0, 0},          {Unary::kRelu, 1, 1},
      {Unary::kEluPlusOne, 0, 1},    {Unary::kSquare, 3, 6},
      {Unary::kSigmoid, 1000, 0},    {Unary::kSigmoid, -1000, 0},
      {Unary::kTanh, 1000, 0},       {Unary::kTanh, -1000, 0},
      {Unary::kSilu, 1000, 1},       {Unary::kSilu, -1000, 0},
      {Unary::kGelu, 1000, 1},       {Unary::kGelu, -1000, 0},
      {Unary::kGelu, T(1e30), 1},    {Unary::kGelu, T(-1e30), 0},
      {Unary::kSoftplus, 1000, 1},   {Unary::kSoftplus, -1000, 0},
      {Unary::kLogSigmoid, 1000, 0}, {Unary::kLogSigmoid, -1000, 1},
      {Unary::kEluPlusOne, 1000, 1}, {Unary::kEluPlusOne, -1000, 0},
      {Unary::kSin, 0, 1},
  };
  ForEachSimdTarget([&] {
    for (const Case& c : cases) {
      const T one = 1;
      T dx = 0;
      MapBackward(c.id, &c.x, &one, &dx, 1);
      EXPECT_EQ(dx, c.derivative)
          << "function " << static_cast<int>(c.id) << " at " << c.x;
    }
  });
}

TYPED_TEST(VectorMathTest, ArithmeticOfAnyLength) {
  using T = TypeParam;
  const std::vector<T> x = RandomValues<T>(1000, 1);
  const std::vector<T> y = RandomValues<T>(1000, 2);
  const std::vector<T> z = RandomValues<T>(1000, 3);
  const T a = T(-1.75);
  ForEachSimdTarget([&] {
    for (const size_t n : Lengths()) {
      Doubles axpy, multiply, multiply_add, add;
      double dot = 0, magnitude = 0;
      for (size_t i = 0; i < n; ++i) {
        const double xi = x[i], yi = y[i], zi = z[i];
        axpy.push_back(zi + a * xi);
        multiply.push_back(xi * yi);
        multiply_add.push_back(zi + xi * yi);
        add.push_back(xi + yi);
        dot += xi * yi;
        magnitude += std::abs(xi * yi);
      }
      const auto check = [&](const Doubles& expected, const char* what,
                             const std::function<void(T*)>& run) {
        std::vector<T> result(z.begin(), z.begin() + n);
        result.push_back(7);
        run(result.data());
        EXPECT_EQ(result.back(), 7) << what << " wrote beyond the end";
        result.pop_back();
        ExpectNear(expected, result, kTolerance<T>, kTolerance<T>, what);
      };
      check(axpy, "Axpy", [&](T* out) { Axpy(a, x.data(), out, n); });
      check(multiply, "Multiply",
            [&](T* out) { Multiply(x.data(), y.data(), out, n); });
      check(multiply_add, "MultiplyAdd",
            [&](T* out) { MultiplyAdd(x.data(), y.data(), out, n); });
      check(add, "Add", [&](T* out) { Add(x.data(), y.data(), out, n); });
      check(multiply, "Multiply in place", [&](T* out) {
        std::copy_n(x.data(), n, out);
        Multiply(out, y.data(), out, n);
      });
      const T actual = Dot(x.data(), y.data(), n);
      EXPECT_NEAR(actual, dot, kTolerance<T> * magnitude) << n;
      EXPECT_EQ(actual, Dot(x.data(), y.data(), n));
    }
  });
}

TYPED_TEST(VectorMathTest, RepeatedMapIsBitEqual) {
  using T = TypeParam;
  const std::vector<T> x = RandomValues<T>(333, 1, 3);
  const std::vector<T> dy = RandomValues<T>(333, 2);
  ForEachSimdTarget([&] {
    for (const Function& f : Functions()) {
      std::vector<T> first(333), second(333);
      Map(f.id, x.data(), first.data(), 333);
      Map(f.id, x.data(), second.data(), 333);
      MapBackward(f.id, x.data(), dy.data(), first.data(), 333);
      MapBackward(f.id, x.data(), dy.data(), second.data(), 333);
      EXPECT_EQ(first, second) << f.name;
    }
  });
}

}  // namespace
}  // namespace mneme::kernels
