// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/norm.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;

constexpr double kEps = 1e-5;
constexpr NormKind kKinds[] = {NormKind::kLayer, NormKind::kRms};

struct OracleResult {
  Doubles y, mean, rstd;
};

// Straight from the definition. gain and bias may be empty.
OracleResult Oracle(NormKind kind, size_t rows, const Doubles& x,
                    const Doubles& gain, const Doubles& bias) {
  OracleResult result;
  const size_t n = x.size() / rows;
  for (size_t r = 0; r < rows; ++r) {
    double mean = 0;
    if (kind == NormKind::kLayer) {
      for (size_t c = 0; c < n; ++c) mean += x[r * n + c] / n;
    }
    double variance = 0;
    for (size_t c = 0; c < n; ++c) {
      variance += std::pow(x[r * n + c] - mean, 2) / n;
    }
    const double rstd = 1 / std::sqrt(variance + kEps);
    for (size_t c = 0; c < n; ++c) {
      result.y.push_back((x[r * n + c] - mean) * rstd *
                             (gain.empty() ? 1 : gain[c]) +
                         (bias.empty() ? 0 : bias[c]));
    }
    result.mean.push_back(mean);
    result.rstd.push_back(rstd);
  }
  return result;
}

template <typename T>
struct Tolerance;
template <>
struct Tolerance<float> {
  static constexpr double kRelative = 1e-5, kAbsolute = 1e-5;
};
template <>
struct Tolerance<double> {
  static constexpr double kRelative = 1e-13, kAbsolute = 1e-13;
};

template <typename T>
class NormTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(NormTest, Types);

// An offset of the whole matrix, because a mean far from zero is what makes
// careless variances wrong.
template <typename T>
TestMatrix<T> Input(size_t rows, size_t cols, size_t gap, T offset) {
  TestMatrix<T> x = TestMatrix<T>::Random(rows, cols, gap, rows * 1000 + cols);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) x.view()(r, c) += offset;
  }
  return x;
}

TYPED_TEST(NormTest, ForwardMatchesDefinition) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    for (const NormKind kind : kKinds) {
      for (const size_t rows : {1, 2, 3, 4, 5, 9}) {
        for (const size_t cols : {1, 2, 7, 16, 17, 33, 64, 100, 192}) {
          const TestMatrix<T> x = Input<T>(rows, cols, cols % 5, 2);
          const std::vector<T> gain = RandomValues<T>(cols, 1);
          const std::vector<T> bias = RandomValues<T>(cols, 2);
          const OracleResult expected =
              Oracle(kind, rows, x.template Values<double>(),
                     Doubles(gain.begin(), gain.end()),
                     Doubles(bias.begin(), bias.end()));
          TestMatrix<T> y(rows, cols, 3, -1);
          std::vector<T> mean(rows), rstd(rows);
          NormForward(kind, x.view(), gain.data(), bias.data(), T(kEps),
                      y.view(), mean.data(), rstd.data());
          using Bound = Tolerance<T>;
          ExpectNear(expected.y, y.Values(), Bound::kRelative,
                     Bound::kAbsolute * 10, "y");
          ExpectNear(expected.mean, mean, Bound::kRelative, Bound::kAbsolute,
                     "mean");
          // A single column has no variance, and eps alone decides.
          ExpectNear(expected.rstd, rstd, Bound::kRelative, Bound::kAbsolute,
                     "rstd");
          EXPECT_TRUE(y.GapsIntact());
        }
      }
    }
  });
}

TYPED_TEST(NormTest, MeanFarFromZeroKeepsTheVariance) {
  using T = TypeParam;
  // E[x^2] - E[x]^2 would lose all digits here.
  const T offset = sizeof(T) == 4 ? T(4096) : T(1e9);
  ForEachSimdTarget([&] {
    const TestMatrix<T> x = Input<T>(5, 128, 0, offset);
    const OracleResult expected =
        Oracle(NormKind::kLayer, 5, x.template Values<double>(), {}, {});
    TestMatrix<T> y(5, 128, 0);
    std::vector<T> mean(5), rstd(5);
    NormForward(NormKind::kLayer, x.view(), nullptr, nullptr, T(kEps), y.view(),
                mean.data(), rstd.data());
    ExpectNear(expected.rstd, rstd, 1e-5, 0, "rstd");
    ExpectNear(expected.y, y.Values(), 0, 2e-3, "y");
  });
}

TYPED_TEST(NormTest, WorksInPlaceAndLeavesMeanOfRmsAlone) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    for (const NormKind kind : kKinds) {
      TestMatrix<T> x = Input<T>(6, 35, 2, 1);
      TestMatrix<T> y(6, 35, 0);
      std::vector<T> mean(6, 77), rstd(6);
      NormForward(kind, x.view(), nullptr, nullptr, T(kEps), y.view(),
                  mean.data(), rstd.data());
      if (kind == NormKind::kRms) {
        EXPECT_EQ(mean, std::vector<T>(6, 77));
      }
      // RMS norm needs no mean at all.
      NormForward(kind, x.view(), nullptr, nullptr, T(kEps), x.view(),
                  kind == NormKind::kRms ? nullptr : mean.data(), rstd.data());
      EXPECT_EQ(x.Values(), y.Values());
    }
  });
}

TYPED_TEST(NormTest, NoRowsTouchNothing) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    TestMatrix<T> none(0, 8, 0);
    std::vector<T> d_gain(8, 5);
    NormForward(NormKind::kLayer, none.view(), nullptr, nullptr, T(kEps),
                none.view(), nullptr, nullptr);
    NormBackward(NormKind::kLayer, none.view(), nullptr, nullptr, nullptr,
                 none.view(), none.view(), d_gain.data(), nullptr);
    EXPECT_EQ(d_gain, std::vector<T>(8, 5));
  });
}

template <typename T>
struct Gradients {
  TestMatrix<T> d_x;
  std::vector<T> d_gain, d_bias;
};

// The kernel's gradients, on top of `start` in every output.
template <typename T>
Gradients<T> Backward(NormKind kind, const TestMatrix<T>& x,
                      const std::vector<T>* gain, const TestMatrix<T>& d_y,
                      T start) {
  const size_t rows = x.view().rows, cols = x.view().cols;
  const T* gain_data = gain == nullptr ? nullptr : gain->data();
  TestMatrix<T> y(rows, cols, 0);
  std::vector<T> mean(rows), rstd(rows);
  NormForward(kind, x.view(), gain_data, nullptr, T(kEps), y.view(),
              mean.data(), rstd.data());
  Gradients<T> result{TestMatrix<T>(rows, cols, 1, start),
                      std::vector<T>(cols, start), std::vector<T>(cols, start)};
  NormBackward(kind, x.view(), gain_data,
               kind == NormKind::kRms ? nullptr : mean.data(), rstd.data(),
               d_y.view(), result.d_x.view(), result.d_gain.data(),
               result.d_bias.data());
  EXPECT_TRUE(result.d_x.GapsIntact());
  return result;
}

template <typename T>
std::vector<T> Minus(std::vector<T> values, T start) {
  for (T& value : values) value -= start;
  return values;
}

TYPED_TEST(NormTest, BackwardMatchesCentralDifferences) {
  using T = TypeParam;
  constexpr T kStart = 0.5;
  for (const NormKind kind : kKinds) {
    for (const bool with_gain : {false, true}) {
      for (const size_t rows : {1, 4, 7}) {
        for (const size_t cols : {1, 3, 16, 37}) {
          const TestMatrix<T> x = Input<T>(rows, cols, 2, 1);
          const TestMatrix<T> d_y = TestMatrix<T>::Random(rows, cols, 0, 8);
          const std::vector<T> gain = RandomValues<T>(cols, 3);

          Doubles oracle_x = x.template Values<double>();
          const Doubles oracle_d_y = d_y.template Values<double>();
          Doubles oracle_gain(gain.begin(), gain.end());
          Doubles oracle_bias(cols, 0.25);
          if (!with_gain) oracle_gain.assign(cols, 1);
          const auto loss = [&] {
            const Doubles y =
                Oracle(kind, rows, oracle_x, oracle_gain, oracle_bias).y;
            double sum = 0;
            for (size_t i = 0; i < y.size(); ++i) sum += y[i] * oracle_d_y[i];
            return sum;
          };
          const Doubles d_x = CentralDifferences(&oracle_x, loss);
          const Doubles d_gain = CentralDifferences(&oracle_gain, loss);
          const Doubles d_bias = CentralDifferences(&oracle_bias, loss);

          ForEachSimdTarget([&] {
            const Gradients<T> actual =
                Backward(kind, x, with_gain ? &gain : nullptr, d_y, kStart);
            // A lone column has rstd = eps^-1/2: rounding is amplified as much.
            const double absolute = cols == 1 ? 1e-3 : 1e-5;
            ExpectNear(d_x, Minus(actual.d_x.Values(), kStart), 1e-3, absolute,
                       "d_x");
            ExpectNear(d_gain, Minus(actual.d_gain, kStart), 1e-3, absolute,
                       "d_gain");
            ExpectNear(d_bias, Minus(actual.d_bias, kStart), 1e-3, absolute,
                       "d_bias");
            const Gradients<T> again =
                Backward(kind, x, with_gain ? &gain : nullptr, d_y, kStart);
            EXPECT_EQ(actual.d_x.Values(), again.d_x.Values());
            EXPECT_EQ(actual.d_gain, again.d_gain);
            EXPECT_EQ(actual.d_bias, again.d_bias);
          });
        }
      }
    }
  }
}

TYPED_TEST(NormTest, UnwantedGradientsAreSkipped) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    const size_t rows = 5, cols = 19;
    const TestMatrix<T> x = Input<T>(rows, cols, 0, 1);
    const TestMatrix<T> d_y = TestMatrix<T>::Random(rows, cols, 0, 8);
    const Gradients<T> all = Backward<T>(NormKind::kLayer, x, nullptr, d_y, 0);
    TestMatrix<T> y(rows, cols, 0);
    std::vector<T> mean(rows), rstd(rows);
    NormForward(NormKind::kLayer, x.view(), nullptr, nullptr, T(kEps), y.view(),
                mean.data(), rstd.data());
    TestMatrix<T> d_x(rows, cols, 0);
    std::vector<T> d_gain(cols), d_bias(cols);
    const auto backward = [&](MatrixView<T> d_x_view, T* d_gain_data,
                              T* d_bias_data) {
      NormBackward(NormKind::kLayer, x.view(), nullptr, mean.data(),
                   rstd.data(), d_y.view(), d_x_view, d_gain_data, d_bias_data);
    };
    backward(d_x.view(), nullptr, nullptr);
    backward({}, d_gain.data(), nullptr);
    backward({}, nullptr, d_bias.data());
    EXPECT_EQ(d_x.Values(), all.d_x.Values());
    EXPECT_EQ(d_gain, all.d_gain);
    EXPECT_EQ(d_bias, all.d_bias);
  });
}

TYPED_TEST(NormTest, RowsDoNotDependOnTheirBlock) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    const TestMatrix<T> x = Input<T>(7, 50, 0, 1);
    TestMatrix<T> together(7, 50, 0), single(7, 50, 0);
    std::vector<T> mean(7), rstd(7);
    NormForward(NormKind::kLayer, x.view(), nullptr, nullptr, T(kEps),
                together.view(), mean.data(), rstd.data());
    for (size_t r = 0; r < 7; ++r) {
      NormForward(NormKind::kLayer, x.view().Rows(r, 1), nullptr, nullptr,
                  T(kEps), single.view().Rows(r, 1), &mean[r], &rstd[r]);
    }
    EXPECT_EQ(together.Values(), single.Values());
  });
}

}  // namespace
}  // namespace mneme::kernels
