// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/long_fft.h"

#include <cstddef>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;

// y[t] += sum_{s <= t} b[t - s] a[s], from the definition.
template <typename T>
void AddConvolution(const TestMatrix<T>& a, const TestMatrix<T>& b,
                    Doubles* y) {
  const MatrixView<const T> x = a.view(), h = b.view();
  for (size_t t = 0; t < x.rows; ++t) {
    for (size_t s = 0; s <= t; ++s) {
      for (size_t c = 0; c < x.cols; ++c) {
        (*y)[t * x.cols + c] += double{h(t - s, c)} * double{x(s, c)};
      }
    }
  }
}

template <typename T>
class LongFftTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(LongFftTest, Types);

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;

template <typename T>
Spectra<T> Transform(const LongFft<T>& fft, const TestMatrix<T>& x) {
  Spectra<T> result;
  fft.Transform(x.view(), &result);
  return result;
}

// y += rows [first, first + y.rows) of the product of x and h.
template <typename T>
void AddProduct(const LongFft<T>& fft, const TestMatrix<T>& x,
                const TestMatrix<T>& h, size_t first, TestMatrix<T>* y) {
  std::vector<Spectra<T>> of_x(1), of_h(1), product;
  fft.Transform(x.view(), &of_x[0]);
  fft.Transform(h.view(), &of_h[0]);
  fft.Convolve(of_x, of_h, 1, 1, &product);
  fft.AddInverse(product[0], first, y->view());
}

TYPED_TEST(LongFftTest, SizeOfTwoLengthsHasNoWrapAround) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  ForEachSimdTarget([] {
    for (const size_t channels : {1, 3, 8, 19, 35}) {
      for (const size_t length : {1, 2, 3, 4, 5, 16, 33, 64, 100, 300}) {
        SCOPED_TRACE(testing::Message() << length << " rows of " << channels);
        const Matrix x = Matrix::Random(length, channels, 2, 1);
        const Matrix h = Matrix::Random(length, channels, 1, 2);
        Doubles expected(length * channels);
        AddConvolution(x, h, &expected);
        const LongFft<T> fft(FftSize(2 * length));
        EXPECT_GE(fft.size(), 2 * length);
        Matrix y(length, channels, 3);
        AddProduct(fft, x, h, 0, &y);
        ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>, "y");
        EXPECT_TRUE(y.GapsIntact());
      }
    }
    // And that this test would see it: the last token of a size too small is
    // the first one's past, with its sign changed.
    Matrix last(8, 1, 0), echo(8, 1, 0), y(8, 1, 0);
    last.view()(7, 0) = echo.view()(1, 0) = 1;
    const LongFft<T> small(8);
    AddProduct(small, last, echo, 0, &y);
    EXPECT_NEAR(y.view()(0, 0), -1, 1e-6);
  });
}

TYPED_TEST(LongFftTest, InverseAddsSomeRows) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 9, kChannels = 2, kFirst = 3;
  ForEachSimdTarget([] {
    const LongFft<T> fft(FftSize(2 * kLength));
    Doubles expected(kLength * kChannels, 0.5);
    Matrix y(kLength - kFirst, kChannels, 0, T{0.5});
    for (const int pair : {0, 1, 2}) {
      const Matrix a = Matrix::Random(kLength, kChannels, 0, 2 * pair);
      const Matrix b = Matrix::Random(kLength, kChannels, 0, 2 * pair + 1);
      AddProduct(fft, a, b, kFirst, &y);
      AddConvolution(a, b, &expected);
    }
    expected.erase(expected.begin(), expected.begin() + kFirst * kChannels);
    ExpectNear(expected, y.Values(), kTolerance<T>, kTolerance<T>, "y");
  });
}

// Sequences of spectra, convolved with one another in turn.
TYPED_TEST(LongFftTest, ConvolvesSpectra) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kChannels = 11, kSpectra = 6;
  ForEachSimdTarget([] {
    for (const size_t length : {2, 4, 16}) {
      const LongFft<T> fft(FftSize(2 * length));
      std::vector<Matrix> a, b;
      std::vector<Spectra<T>> of_a, of_b;
      for (size_t i = 0; i < kSpectra; ++i) {
        a.push_back(Matrix::Random(length, kChannels, 0, 2 * i));
        b.push_back(Matrix::Random(length, kChannels, 0, 2 * i + 1));
        of_a.push_back(Transform(fft, a.back()));
        of_b.push_back(Transform(fft, b.back()));
      }
      std::vector<Spectra<T>> sums;
      for (const size_t first : {1, 2, 6}) {
        for (size_t last = first; last <= kSpectra; ++last) {
          SCOPED_TRACE(testing::Message()
                       << length << " rows, " << first << " to " << last);
          fft.Convolve(of_a, of_b, first, last, &sums);
          for (size_t i = first; i <= last; ++i) {
            Doubles expected(length * kChannels);
            for (size_t j = 0; j < i; ++j) {
              AddConvolution(a[i - 1 - j], b[j], &expected);
            }
            Matrix y(length, kChannels, 0);
            fft.AddInverse(sums[i - first], 0, y.view());
            ExpectNear(expected, y.Values(), kTolerance<T>, 2 * kTolerance<T>,
                       "y");
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace mneme::kernels
