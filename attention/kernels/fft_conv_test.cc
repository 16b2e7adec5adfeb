// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/fft_conv.h"

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

// y[t] = sum_{s <= t} h[t - s] x[s], from the definition.
template <typename T>
Doubles Oracle(const TestMatrix<T>& x, const TestMatrix<T>& h) {
  const MatrixView<const T> a = x.view(), b = h.view();
  Doubles y(a.rows * a.cols);
  for (size_t t = 0; t < a.rows; ++t) {
    for (size_t s = 0; s <= t; ++s) {
      for (size_t c = 0; c < a.cols; ++c) {
        y[t * a.cols + c] += double{b(t - s, c)} * double{a(s, c)};
      }
    }
  }
  return y;
}

template <typename T>
class FftConvTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(FftConvTest, Types);

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;

TYPED_TEST(FftConvTest, SizeOfTwoLengthsHasNoWrapAround) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kChannels = 3;
  for (const size_t length : {1, 2, 3, 4, 5, 16, 33, 64, 100}) {
    SCOPED_TRACE(length);
    const Matrix x = Matrix::Random(length, kChannels, 2, 1);
    const Matrix h = Matrix::Random(length, kChannels, 1, 2);
    const Doubles expected = Oracle(x, h);
    const LongFft fft(FftSize(2 * length));
    EXPECT_GE(fft.size(), 2 * length);
    Spectra product;
    fft.MultiplyAdd(fft.Transform(x.view()), fft.Transform(h.view()), &product);
    Matrix y(length, kChannels, 3);
    fft.AddInverse(product, 0, y.view());
    ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>, "y");
    EXPECT_TRUE(y.GapsIntact());
  }
  // And that this test would see it: the last token of a size too small is the
  // first one's past.
  Matrix last(8, 1, 0), echo(8, 1, 0), y(8, 1, 0);
  last.view()(7, 0) = echo.view()(1, 0) = 1;
  const LongFft small(8);
  const auto transform = [&](const Matrix& x) {
    return small.Transform(x.view());
  };
  Spectra product;
  small.MultiplyAdd(transform(last), transform(echo), &product);
  small.AddInverse(product, 0, y.view());
  EXPECT_NEAR(y.view()(0, 0), 1, 1e-6);
}

TYPED_TEST(FftConvTest, SpectraAddUpAndInverseAdds) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 9, kChannels = 2;
  const LongFft fft(FftSize(2 * kLength));
  Spectra sum;
  Doubles expected(kLength * kChannels, 0.5);
  for (const int pair : {0, 1, 2}) {
    const Matrix a = Matrix::Random(kLength, kChannels, 0, 2 * pair);
    const Matrix b = Matrix::Random(kLength, kChannels, 0, 2 * pair + 1);
    fft.MultiplyAdd(fft.Transform(a.view()), fft.Transform(b.view()), &sum);
    const Doubles y = Oracle(a, b);
    for (size_t i = 0; i < y.size(); ++i) expected[i] += y[i];
  }
  constexpr size_t kFirst = 3;
  Matrix y(kLength - kFirst, kChannels, 0, T{0.5});
  fft.AddInverse(sum, kFirst, y.view());
  expected.erase(expected.begin(), expected.begin() + kFirst * kChannels);
  ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>, "y");
}

TYPED_TEST(FftConvTest, BlocksMatchTheDefinition) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kChannels = 2;
  for (const size_t leaf : {1, 2, 3, 8, 64}) {
    for (const size_t length : {0, 1, 2, 3, 7, 8, 9, 16, 17, 31, 100, 129}) {
      SCOPED_TRACE(testing::Message()
                   << "leaf " << leaf << " length " << length);
      const Matrix x = Matrix::Random(length, kChannels, 2, 1);
      // A filter may be longer than the sequence.
      const Matrix h = Matrix::Random(length + length % 3, kChannels, 1, 2);
      const Doubles expected = Oracle(x, h);
      CausalFftConv<T> conv(h.view(), leaf);
      for (const size_t first : {size_t{0}, length / 3, length - length / 9}) {
        for (const bool repeated : {false, true}) {
          Matrix y(length - first, kChannels, 3);
          conv.Apply(x.view(), first, y.view());
          ExpectNear(
              Doubles(expected.begin() + first * kChannels, expected.end()),
              y.Values(), kTolerance<T>, kTolerance<T>,
              repeated ? "with the filter's transforms at hand" : "y");
          EXPECT_TRUE(y.GapsIntact());
        }
      }
    }
  }
}

TYPED_TEST(FftConvTest, BlocksAreCausalToTheLastBit) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 50, kChannels = 2;
  const Matrix x = Matrix::Random(kLength, kChannels, 0, 1);
  const Matrix h = Matrix::Random(kLength, kChannels, 0, 2);
  CausalFftConv<T> conv(h.view(), 4);
  Matrix y(kLength, kChannels, 0);
  conv.Apply(x.view(), 0, y.view());
  const Doubles all = y.template Values<double>();
  for (size_t cut = 1; cut < kLength; cut += 3) {
    for (const T future : {T{1000}, std::numeric_limits<T>::quiet_NaN()}) {
      Matrix changed = x;
      for (size_t t = cut; t < kLength; ++t) {
        std::fill_n(changed.view().row(t), kChannels, future);
      }
      Matrix other(kLength, kChannels, 0);
      conv.Apply(changed.view(), 0, other.view());
      const Doubles actual = other.template Values<double>();
      EXPECT_TRUE(std::equal(all.begin(), all.begin() + cut * kChannels,
                             actual.begin()))
          << cut;
    }
  }
}

TYPED_TEST(FftConvTest, GradientsMatchCentralDifferences) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  using Wide = TestMatrix<double>;
  constexpr size_t kChannels = 2, kSequences = 3;
  for (const size_t length : {1, 2, 5, 12}) {
    const size_t n = length * kChannels;
    const Matrix h = Matrix::Random(length, kChannels, 1, 1);
    // All sequences' inputs one after the other, and likewise d_y.
    const Matrix x = Matrix::Random(kSequences * length, kChannels, 2, 2);
    const Matrix d_y = Matrix::Random(kSequences * length, kChannels, 0, 3);
    Doubles wide_x = x.template Values<double>();
    Doubles wide_h = h.template Values<double>();
    const Doubles seed = d_y.template Values<double>();
    const auto loss = [&] {
      double sum = 0;
      for (size_t i = 0; i < kSequences; ++i) {
        Wide a(length, kChannels, 0), b(length, kChannels, 0);
        std::copy_n(wide_x.begin() + i * n, n, a.view().data);
        std::copy_n(wide_h.begin(), n, b.view().data);
        const Doubles y = Oracle(a, b);
        for (size_t j = 0; j < n; ++j) sum += y[j] * seed[i * n + j];
      }
      return sum;
    };
    const Doubles d_x = CentralDifferences(&wide_x, loss);
    const Doubles d_h = CentralDifferences(&wide_h, loss);
    for (const size_t direct : {0, 100}) {
      SCOPED_TRACE(testing::Message() << "length " << length << ", directly up "
                                      << "to " << direct);
      LongConvGradient<T> gradient(h.view(), direct);
      Matrix actual(kSequences * length, kChannels, 4, 7);
      for (size_t i = 0; i < kSequences; ++i) {
        gradient.Sequence(x.view().Rows(i * length, length),
                          d_y.view().Rows(i * length, length),
                          actual.view().Rows(i * length, length));
      }
      ExpectNear(d_x, actual.Values(), 1e-3, 1e-5, "d_x");
      EXPECT_TRUE(actual.GapsIntact());
      ExpectNear(d_h, gradient.Filter(), 1e-3, 1e-5, "d_h");
    }
  }
}

TYPED_TEST(FftConvTest, ChannelsDoNotTouchOneAnother) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 32;
  Matrix x = Matrix::Random(kLength, 2, 0, 1);
  const Matrix h = Matrix::Random(kLength, 2, 0, 2);
  for (size_t t = 0; t < kLength; ++t) x.view()(t, 1) *= T{1e20};
  CausalFftConv<T> conv(h.view(), 2);
  Matrix y(kLength, 2, 0);
  conv.Apply(x.view(), 0, y.view());
  const Doubles expected = Oracle(x, h);
  for (size_t t = 0; t < kLength; ++t) {
    EXPECT_NEAR(y.view()(t, 0), expected[2 * t], 1e-4) << t;
  }
}

TEST(FftConv, FlopsOfShortAndLongSequences) {
  EXPECT_EQ(CausalFftConvFlops(5, 8, 1), 30);  // 15 products, 15 sums
  EXPECT_EQ(CausalFftConvFlops(5, 8, 4), 4 * 30);
  // Two blocks of 2, and the 4 products of one with the other.
  EXPECT_EQ(CausalFftConvFlops(4, 2, 1), 6 + 8 + 6);
  // Two such blocks of 4 and, in between, transforms of 8 there and back; that
  // of the filter serves all sequences.
  constexpr double kTransform = 2.5 * 8 * 3;
  constexpr double kAlone = 20 + 20 + 2 * kTransform + 4 * 6;
  EXPECT_EQ(CausalFftConvFlops(8, 2, 1), kAlone + kTransform);
  EXPECT_EQ(CausalFftConvFlops(8, 2, 3), 3 * kAlone + kTransform);
  // Of 12 rows, for 6 and 6 of which there must be a power of two.
  constexpr double kSixteen = 2.5 * 16 * 4;
  EXPECT_EQ(CausalFftConvFlops(12, 3, 1),
            2 * (12 + 18 + 12) + 3 * kSixteen + 8 * 6);
  EXPECT_LT(CausalFftConvFlops(65536, 64, 1),
            CausalFftConvFlops(65536, 1 << 20, 1));
}

}  // namespace
}  // namespace mneme::kernels
