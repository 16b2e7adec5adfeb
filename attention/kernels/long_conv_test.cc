// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/long_conv.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;

struct Shape {
  size_t inputs, taps, outputs, offset, channels;
};

// Straight from the definition, onto start.
Doubles Oracle(const Shape& s, const Doubles& x, const Doubles& h,
               double start) {
  Doubles y(s.outputs * s.channels, start);
  for (size_t t = 0; t < s.outputs; ++t) {
    for (size_t i = 0; i < s.inputs; ++i) {
      if (i > s.offset + t || s.offset + t - i >= s.taps) continue;
      for (size_t c = 0; c < s.channels; ++c) {
        y[t * s.channels + c] +=
            h[(s.offset + t - i) * s.channels + c] * x[i * s.channels + c];
      }
    }
  }
  return y;
}

// Rows in reverse order.
template <typename T>
TestMatrix<T> Reversed(const TestMatrix<T>& x) {
  const MatrixView<const T> from = x.view();
  TestMatrix<T> result(from.rows, from.cols, 2);
  for (size_t r = 0; r < from.rows; ++r) {
    std::copy_n(from.row(from.rows - 1 - r), from.cols, result.view().row(r));
  }
  return result;
}

template <typename T>
class LongConvTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(LongConvTest, Types);

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;

TYPED_TEST(LongConvTest, MatchesTheDefinition) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  std::vector<Shape> shapes;
  // Below, at and above the rows of a tile; filters longer and shorter than
  // what is asked of them; outputs beside, after and far after the inputs.
  for (const size_t inputs : {0, 1, 7, 8, 20}) {
    for (const size_t outputs : {0, 1, 8, 9, 21}) {
      for (const size_t taps : {0, 1, 3, 12, 50}) {
        for (const size_t offset : {0, 1, 8, 20, 60}) {
          shapes.push_back({inputs, taps, outputs, offset, 3});
        }
      }
    }
  }
  for (const size_t channels : {1, 16, 37}) {
    shapes.push_back({67, 67, 67, 0, channels});
    shapes.push_back({40, 61, 21, 40, channels});
  }
  constexpr T kStart = 0.5;
  for (const Shape& s : shapes) {
    const Matrix x = Matrix::Random(s.inputs, s.channels, 2, 1);
    const Matrix h = Matrix::Random(s.taps, s.channels, 1, 2);
    const Doubles expected = Oracle(s, x.template Values<double>(),
                                    h.template Values<double>(), kStart);
    ForEachSimdTarget([&] {
      SCOPED_TRACE(testing::Message()
                   << s.inputs << " inputs, " << s.taps << " taps, "
                   << s.outputs << " outputs at " << s.offset << ", "
                   << s.channels << " channels");
      Matrix y(s.outputs, s.channels, 5, kStart);
      LongConv(x.view(), h.view(), s.offset, y.view());
      ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>, "y");
      EXPECT_TRUE(y.GapsIntact());
      Matrix again(s.outputs, s.channels, 0, kStart);
      LongConv(x.view(), h.view(), s.offset, again.view());
      EXPECT_EQ(y.Values(), again.Values());
    });
  }
}

TYPED_TEST(LongConvTest, GradientsAreConvolutionsInReverse) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 13, kChannels = 2;
  const Matrix x = Matrix::Random(kLength, kChannels, 0, 1);
  const Matrix h = Matrix::Random(kLength, kChannels, 0, 2);
  const Matrix d_y = Matrix::Random(kLength, kChannels, 0, 3);
  Doubles oracle_x = x.template Values<double>();
  Doubles oracle_h = h.template Values<double>();
  const Doubles seed = d_y.template Values<double>();
  const auto loss = [&] {
    const Doubles y = Oracle({kLength, kLength, kLength, 0, kChannels},
                             oracle_x, oracle_h, 0);
    double sum = 0;
    for (size_t i = 0; i < y.size(); ++i) sum += y[i] * seed[i];
    return sum;
  };
  const Doubles d_x = CentralDifferences(&oracle_x, loss);
  const Doubles d_h = CentralDifferences(&oracle_h, loss);
  const Matrix reversed = Reversed(d_y);
  ForEachSimdTarget([&] {
    Matrix by_x(kLength, kChannels, 0), by_h(kLength, kChannels, 0);
    LongConv(reversed.view(), h.view(), 0, by_x.view());
    LongConv(x.view(), reversed.view(), 0, by_h.view());
    ExpectNear(d_x, Reversed(by_x).Values(), 1e-3, 1e-5, "d_x");
    ExpectNear(d_h, Reversed(by_h).Values(), 1e-3, 1e-5, "d_h");
  });
}

TYPED_TEST(LongConvTest, TheFutureIsNotRead) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 29, kChannels = 19, kCut = 11;
  const Matrix h = Matrix::Random(kLength, kChannels, 0, 2);
  Matrix x = Matrix::Random(kLength, kChannels, 0, 1);
  ForEachSimdTarget([&] {
    Matrix y(kLength, kChannels, 0), poisoned(kLength, kChannels, 0);
    LongConv(x.view(), h.view(), 0, y.view());
    Matrix changed = x;
    for (size_t t = kCut; t < kLength; ++t) {
      std::fill_n(changed.view().row(t), kChannels,
                  std::numeric_limits<T>::quiet_NaN());
    }
    LongConv(changed.view(), h.view(), 0, poisoned.view());
    for (size_t t = 0; t < kLength; ++t) {
      for (size_t c = 0; c < kChannels; ++c) {
        if (t < kCut) {
          EXPECT_EQ(poisoned.view()(t, c), y.view()(t, c));
        } else {
          EXPECT_TRUE(std::isnan(poisoned.view()(t, c)));
        }
      }
    }
  });
}

}  // namespace
}  // namespace mneme::kernels
