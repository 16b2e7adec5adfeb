// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/causal_conv.h"

#include <cstddef>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;

struct Shape {
  size_t width, length, channels;
};

// Lengths below, at and above the width, and beyond the 64 rows that the
// kernel takes at a time.
std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (size_t width = 1; width <= 8; ++width) {
    for (const size_t length : {0, 1, 2, 3, 5, 9, 63, 65, 130}) {
      for (const size_t channels : {1, 3, 16, 37}) {
        shapes.push_back({width, length, channels});
      }
    }
  }
  return shapes;
}

// Straight from the definition; history may be empty.
Doubles Oracle(const Shape& s, const Doubles& x, const Doubles& w,
               const Doubles& bias, const Doubles& history) {
  Doubles y;
  for (size_t t = 0; t < s.length; ++t) {
    for (size_t c = 0; c < s.channels; ++c) {
      double sum = bias[c];
      for (size_t j = 0; j < s.width; ++j) {
        double past = 0;
        if (j <= t) {
          past = x[(t - j) * s.channels + c];
        } else if (!history.empty()) {
          // The last row of history stands just before row 0.
          past = history[(s.width - 1 + t - j) * s.channels + c];
        }
        sum += w[j * s.channels + c] * past;
      }
      y.push_back(sum);
    }
  }
  return y;
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-13;

template <typename T>
class CausalConvTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(CausalConvTest, Types);

TYPED_TEST(CausalConvTest, ForwardMatchesDefinition) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  for (const Shape& s : Shapes()) {
    const Matrix x = Matrix::Random(s.length, s.channels, 2, 1);
    const Matrix w = Matrix::Random(s.width, s.channels, 1, 2);
    const Matrix history = Matrix::Random(s.width - 1, s.channels, 3, 3);
    const Matrix bias = Matrix::Random(1, s.channels, 0, 4);
    for (const bool with_history : {false, true}) {
      for (const bool with_bias : {false, true}) {
        const Doubles expected = Oracle(
            s, x.template Values<double>(), w.template Values<double>(),
            with_bias ? bias.template Values<double>() : Doubles(s.channels, 0),
            with_history ? history.template Values<double>() : Doubles());
        ForEachSimdTarget([&] {
          SCOPED_TRACE(testing::Message()
                       << "width " << s.width << " length " << s.length
                       << " channels " << s.channels);
          Matrix y(s.length, s.channels, 5, -1);
          CausalConvForward(
              x.view(), w.view(), with_bias ? bias.view().data : nullptr,
              with_history ? history.view() : MatrixView<const T>(), y.view());
          ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>, "y");
          EXPECT_TRUE(y.GapsIntact());
        });
      }
    }
  }
}

TYPED_TEST(CausalConvTest, SequenceInTwoPartsIsTheSameSequence) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kWidth = 4, kLength = 150, kChannels = 21;
  const Matrix x = Matrix::Random(kLength, kChannels, 0, 1);
  const Matrix w = Matrix::Random(kWidth, kChannels, 0, 2);
  const Matrix bias = Matrix::Random(1, kChannels, 0, 3);
  ForEachSimdTarget([&] {
    Matrix whole(kLength, kChannels, 0), parts(kLength, kChannels, 0);
    CausalConvForward(x.view(), w.view(), bias.view().data, {}, whole.view());
    constexpr size_t kFirst = 50;
    CausalConvForward(x.view().Rows(0, kFirst), w.view(), bias.view().data, {},
                      parts.view().Rows(0, kFirst));
    CausalConvForward(x.view().Rows(kFirst, kLength - kFirst), w.view(),
                      bias.view().data,
                      x.view().Rows(kFirst - (kWidth - 1), kWidth - 1),
                      parts.view().Rows(kFirst, kLength - kFirst));
    EXPECT_EQ(whole.Values(), parts.Values());  // bit-equal: decode is exact
  });
}

template <typename T>
struct Gradients {
  TestMatrix<T> d_x, d_w, d_bias;
};

template <typename T>
Gradients<T> Backward(const Shape& s, const TestMatrix<T>& x,
                      const TestMatrix<T>& w, const TestMatrix<T>& d_y,
                      T start) {
  Gradients<T> result{TestMatrix<T>(s.length, s.channels, 1, start),
                      TestMatrix<T>(s.width, s.channels, 4, start),
                      TestMatrix<T>(1, s.channels, 0, start)};
  CausalConvBackward(x.view(), w.view(), d_y.view(), result.d_x.view(),
                     result.d_w.view(), result.d_bias.view().data);
  EXPECT_TRUE(result.d_x.GapsIntact());
  EXPECT_TRUE(result.d_w.GapsIntact());
  return result;
}

template <typename T>
std::vector<T> Minus(std::vector<T> values, T start) {
  for (T& value : values) value -= start;
  return values;
}

TYPED_TEST(CausalConvTest, BackwardMatchesCentralDifferences) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr T kStart = 0.5;
  for (size_t width = 1; width <= 8; ++width) {
    for (const size_t length : {1, 2, 7, 67}) {
      for (const size_t channels : {1, 3, 18}) {
        // Differences by every element of x are slow on the larger shapes.
        if (length * channels > 200) continue;
        const Shape s{width, length, channels};
        const Matrix x = Matrix::Random(length, channels, 2, 1);
        const Matrix w = Matrix::Random(width, channels, 0, 2);
        const Matrix d_y = Matrix::Random(length, channels, 1, 3);
        Doubles oracle_x = x.template Values<double>();
        Doubles oracle_w = w.template Values<double>();
        Doubles oracle_bias(channels, 0.25);
        const Doubles oracle_d_y = d_y.template Values<double>();
        const auto loss = [&] {
          const Doubles y = Oracle(s, oracle_x, oracle_w, oracle_bias, {});
          double sum = 0;
          for (size_t i = 0; i < y.size(); ++i) sum += y[i] * oracle_d_y[i];
          return sum;
        };
        const Doubles d_x = CentralDifferences(&oracle_x, loss);
        const Doubles d_w = CentralDifferences(&oracle_w, loss);
        const Doubles d_bias = CentralDifferences(&oracle_bias, loss);
        ForEachSimdTarget([&] {
          SCOPED_TRACE(testing::Message()
                       << "width " << width << " length " << length
                       << " channels " << channels);
          const Gradients<T> actual = Backward(s, x, w, d_y, kStart);
          ExpectNear(d_x, Minus(actual.d_x.Values(), kStart), 1e-3, 1e-5,
                     "d_x");
          ExpectNear(d_w, Minus(actual.d_w.Values(), kStart), 1e-3, 1e-5,
                     "d_w");
          ExpectNear(d_bias, Minus(actual.d_bias.Values(), kStart), 1e-3, 1e-5,
                     "d_bias");
          const Gradients<T> again = Backward(s, x, w, d_y, kStart);
          EXPECT_EQ(actual.d_x.Values(), again.d_x.Values());
          EXPECT_EQ(actual.d_w.Values(), again.d_w.Values());
          EXPECT_EQ(actual.d_bias.Values(), again.d_bias.Values());
        });
      }
    }
  }
}

TYPED_TEST(CausalConvTest, UnwantedGradientsAreSkipped) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  const Shape s{3, 70, 19};
  const Matrix x = Matrix::Random(s.length, s.channels, 0, 1);
  const Matrix w = Matrix::Random(s.width, s.channels, 0, 2);
  const Matrix d_y = Matrix::Random(s.length, s.channels, 0, 3);
  ForEachSimdTarget([&] {
    const Gradients<T> all = Backward<T>(s, x, w, d_y, 0);
    Matrix d_x(s.length, s.channels, 0), d_w(s.width, s.channels, 0),
        d_bias(1, s.channels, 0);
    CausalConvBackward(x.view(), w.view(), d_y.view(), d_x.view(), {}, nullptr);
    CausalConvBackward(x.view(), w.view(), d_y.view(), {}, d_w.view(), nullptr);
    CausalConvBackward(x.view(), w.view(), d_y.view(), {}, {},
                       d_bias.view().data);
    EXPECT_EQ(d_x.Values(), all.d_x.Values());
    EXPECT_EQ(d_w.Values(), all.d_w.Values());
    EXPECT_EQ(d_bias.Values(), all.d_bias.Values());
  });
}

}  // namespace
}  // namespace mneme::kernels
