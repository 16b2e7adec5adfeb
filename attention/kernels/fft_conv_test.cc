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

// y [x.rows - first, channels] of one sequence.
template <typename T>
void Convolve(const TestMatrix<T>& h, size_t leaf, size_t first,
              const TestMatrix<T>& x, TestMatrix<T>* y) {
  CausalFftConv(h.view(), leaf, first,
                std::vector<ConvSequence<T>>{{x.view(), y->view()}});
}

TYPED_TEST(FftConvTest, BlocksMatchTheDefinition) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  ForEachSimdTarget([] {
    for (const size_t channels : {2, 21, 35}) {
      for (const size_t leaf : {1, 2, 3, 8, 64}) {
        for (const size_t length :
             {0, 1, 2, 3, 8, 9, 16, 17, 31, 100, 129, 300}) {
          SCOPED_TRACE(testing::Message() << "leaf " << leaf << " length "
                                          << length << " of " << channels);
          const Matrix x = Matrix::Random(length, channels, 2, 1);
          const Matrix other = Matrix::Random(length, channels, 0, 3);
          // A filter may be longer than the sequence.
          const Matrix h = Matrix::Random(length + length % 3, channels, 1, 2);
          const Doubles expected = Oracle(x, h), expected2 = Oracle(other, h);
          for (const size_t first :
               {size_t{0}, length / 3, length - length / 9}) {
            Matrix y(length - first, channels, 3);
            Matrix y2(length - first, channels, 0, T{0.5});
            CausalFftConv(h.view(), leaf, first,
                          std::vector<ConvSequence<T>>{
                              {x.view(), y.view()}, {other.view(), y2.view()}});
            const auto wanted = [&](const Doubles& all, double plus) {
              Doubles rows(all.begin() + first * channels, all.end());
              for (double& value : rows) value += plus;
              return rows;
            };
            ExpectNear(wanted(expected, 0), y.Values(), kTolerance<T>,
                       kTolerance<T>, "y");
            EXPECT_TRUE(y.GapsIntact());
            ExpectNear(wanted(expected2, 0.5), y2.Values(), kTolerance<T>,
                       kTolerance<T>, "y of the second");
          }
        }
      }
    }
  });
}

TYPED_TEST(FftConvTest, BlocksAreCausalToTheLastBit) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 50, kChannels = 2;
  const Matrix x = Matrix::Random(kLength, kChannels, 0, 1);
  const Matrix h = Matrix::Random(kLength, kChannels, 0, 2);
  const auto check = [&](size_t leaf) {
    Matrix y(kLength, kChannels, 0);
    Convolve(h, leaf, 0, x, &y);
    const Doubles all = y.template Values<double>();
    for (size_t cut = 1; cut < kLength; cut += 3) {
      for (const T future : {T{1000}, std::numeric_limits<T>::quiet_NaN()}) {
        Matrix changed = x;
        for (size_t t = cut; t < kLength; ++t) {
          std::fill_n(changed.view().row(t), kChannels, future);
        }
        Matrix other(kLength, kChannels, 0);
        Convolve(h, leaf, 0, changed, &other);
        const Doubles actual = other.template Values<double>();
        EXPECT_TRUE(std::equal(all.begin(), all.begin() + cut * kChannels,
                               actual.begin()))
            << cut;
      }
    }
  };
  ForEachSimdTarget([&] {
    check(4);
    check(1);  // two levels
  });
}

TYPED_TEST(FftConvTest, GradientsMatchCentralDifferences) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  using Wide = TestMatrix<double>;
  constexpr size_t kSequences = 3;
  // The longest ones in blocks of several rows, the others in several panels.
  for (const size_t length : {1, 2, 5, 12, 37}) {
    const size_t channels = length > 12 ? 2 : 35, n = length * channels;
    const Matrix h = Matrix::Random(length, channels, 1, 1);
    // All sequences' inputs one after the other, and likewise d_y.
    const Matrix x = Matrix::Random(kSequences * length, channels, 2, 2);
    const Matrix d_y = Matrix::Random(kSequences * length, channels, 0, 3);
    Doubles wide_x = x.template Values<double>();
    Doubles wide_h = h.template Values<double>();
    const Doubles seed = d_y.template Values<double>();
    const auto loss = [&] {
      double sum = 0;
      for (size_t i = 0; i < kSequences; ++i) {
        Wide a(length, channels, 0), b(length, channels, 0);
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
      Matrix actual(kSequences * length, channels, 4, 7);
      std::vector<GradientSequence<T>> sequences;
      for (size_t i = 0; i < kSequences; ++i) {
        sequences.push_back({x.view().Rows(i * length, length),
                             d_y.view().Rows(i * length, length),
                             actual.view().Rows(i * length, length)});
      }
      Matrix actual_h(length, channels, 5, 7);
      LongConvGradient(h.view(), direct, sequences, actual_h.view());
      ExpectNear(d_x, actual.Values(), 1e-3, 1e-5, "d_x");
      EXPECT_TRUE(actual.GapsIntact());
      ExpectNear(d_h, actual_h.Values(), 1e-3, 1e-5, "d_h");
      EXPECT_TRUE(actual_h.GapsIntact());
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
  Matrix y(kLength, 2, 0);
  Convolve(h, 2, 0, x, &y);
  const Doubles expected = Oracle(x, h);
  for (size_t t = 0; t < kLength; ++t) {
    EXPECT_NEAR(y.view()(t, 0), expected[2 * t], 1e-4) << t;
  }
}

// Errors are relative to the largest products of all, not to an output's own:
// those of one large token, long faded, among many.
TEST(FftConv, ErrorsAreRelativeToTheLargestProducts) {
  constexpr size_t kLength = 4096, kLeaf = 64;
  constexpr double kLargest = 1e4;
  TestMatrix<float> x = TestMatrix<float>::Random(kLength, 2, 0, 1);
  TestMatrix<float> h(kLength, 2, 0);
  for (size_t t = 0; t < kLength; ++t) {
    for (size_t c = 0; c < 2; ++c) {
      h.view()(t, c) = static_cast<float>(std::exp(t / -16.0));
    }
  }
  x.view()(1000, 0) = kLargest;
  const Doubles expected = Oracle(x, h);
  ForEachSimdTarget([&] {
    TestMatrix<float> y(kLength, 2, 0);
    Convolve(h, kLeaf, 0, x, &y);
    double greatest = 0;
    for (size_t t = 0; t < kLength; ++t) {
      greatest = std::max(greatest, std::abs(y.view()(t, 0) - expected[2 * t]));
    }
    EXPECT_LE(greatest, 2e-6 * kLargest);
  });
}

// Sums of spectra's products, without a scale, would be larger than sums of
// products by as much as a block has rows.
TYPED_TEST(FftConvTest, WhatFitsTheTypeDoesNotOverflow) {
  using T = TypeParam;
  using Matrix = TestMatrix<T>;
  constexpr size_t kLength = 16384;
  const Matrix x(kLength, 1, 0, T{1e17f}), h(kLength, 1, 0, T{1e17f});
  ForEachSimdTarget([&] {
    Matrix y(kLength, 1, 0);
    Convolve(h, 64, 0, x, &y);
    for (size_t t = 100; t < kLength; t += 1000) {
      EXPECT_NEAR(y.view()(t, 0) / 1e34 / (t + 1), 1, 1e-4) << t;
    }
    Matrix d_x(kLength, 1, 0), d_h(kLength, 1, 0);
    LongConvGradient(
        h.view(), 64,
        std::vector<GradientSequence<T>>{{x.view(), x.view(), d_x.view()}},
        d_h.view());
    for (size_t t = 100; t < kLength; t += 1000) {
      EXPECT_NEAR(d_x.view()(kLength - 1 - t, 0) / 1e34 / (t + 1), 1, 1e-4)
          << t;
      EXPECT_NEAR(d_h.view()(kLength - 1 - t, 0) / 1e34 / (t + 1), 1, 1e-4)
          << t;
    }
  });
}

TEST(FftConv, FlopsOfShortAndLongSequences) {
  EXPECT_EQ(CausalFftConvFlops(5, 8, 1), 30);  // 15 products, 15 sums
  EXPECT_EQ(CausalFftConvFlops(5, 8, 4), 4 * 30);
  // Two blocks of 2, the filter's transform of 4, those there and back, and a
  // multiply-add of four and four numbers for each of the 2 bins.
  constexpr double kTransform = 2.5 * 4 * 2;
  EXPECT_EQ(CausalFftConvFlops(4, 2, 1), 6 + 6 + 3 * kTransform + 2 * 8);
  EXPECT_EQ(CausalFftConvFlops(4, 2, 3),
            3 * (6 + 6 + 2 * kTransform + 2 * 8) + kTransform);
  // Blocks of 3, 3, 3 and 2, for which there must be a power of two, and the 6
  // pairs of them.
  constexpr double kEight = 2.5 * 8 * 3;
  EXPECT_EQ(CausalFftConvFlops(11, 3, 1),
            3 * 12 + 6 + 3 * 3 * kEight + 6 * 4 * 8);
  // 17 rows: 15 pairs within the first 16 of them and none after, and those of
  // one block of 16 with the last row.
  constexpr double kFour = 2.5 * 4 * 2;  // the smallest
  EXPECT_EQ(CausalFftConvFlops(17, 1, 1), 17 * 2 + 3 * 15 * kFour +
                                              15 * 16 / 2 * 4 * 4 +
                                              3 * 2.5 * 32 * 5 + 4 * 32);
  EXPECT_LT(CausalFftConvFlops(65536, 64, 1),
            CausalFftConvFlops(65536, 1 << 20, 1));
}

TEST(FftConv, FlopsOfTheGradient) {
  EXPECT_EQ(LongConvGradientFlops(5, 8, 4), 4 * 2 * 30);
  // Four blocks of a row, and 10 pairs of them.
  constexpr double kTransform = 2.5 * 4 * 2;
  EXPECT_EQ(LongConvGradientFlops(4, 2, 3),
            4 * kTransform + 3 * (4 * 4 * kTransform + 2 * 10 * 4 * 4));
}

}  // namespace
}  // namespace mneme::kernels
