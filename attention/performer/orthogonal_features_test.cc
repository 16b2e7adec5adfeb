// SPDX-License-Identifier: Apache-2.0

#include "attention/performer/orthogonal_features.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

double Dot(const double* a, const double* b, int64_t dim) {
  double sum = 0;
  for (int64_t c = 0; c < dim; ++c) sum += a[c] * b[c];
  return sum;
}

TEST(OrthogonalFeatures, RowsOfABlockAreOrthogonal) {
  constexpr int64_t kDim = 7, kFeatures = 17;  // two blocks and three rows
  const auto rows = OrthogonalFeatures(kFeatures, kDim, 1, 0);
  ASSERT_EQ(rows.size(), static_cast<size_t>(kFeatures * kDim));
  for (int64_t i = 0; i < kFeatures; ++i) {
    const double* row = &rows[i * kDim];
    EXPECT_GT(Dot(row, row, kDim), 0);
    for (int64_t j = i / kDim * kDim; j < i; ++j) {
      EXPECT_NEAR(Dot(row, &rows[j * kDim], kDim), 0, 1e-13);
    }
  }
}

TEST(OrthogonalFeatures, EntriesHaveUnitVarianceAndNoMean) {
  constexpr int64_t kDim = 16, kFeatures = 4096;
  const auto rows = OrthogonalFeatures(kFeatures, kDim, 2, 0);
  double sum = 0, squares = 0;
  for (double x : rows) {
    sum += x;
    squares += x * x;
  }
  // Standard errors 1 / 256 and sqrt(2) / 256.
  EXPECT_NEAR(sum / rows.size(), 0, 0.02);
  EXPECT_NEAR(squares / rows.size(), 1, 0.03);
}

TEST(OrthogonalFeatures, ArgumentsDecideTheDraw) {
  const auto rows = OrthogonalFeatures(5, 4, 3, 1);
  EXPECT_EQ(rows, OrthogonalFeatures(5, 4, 3, 1));
  EXPECT_NE(rows, OrthogonalFeatures(5, 4, 4, 1));
  EXPECT_NE(rows, OrthogonalFeatures(5, 4, 3, 2));
}

TEST(OrthogonalFeatures, TheEstimateOfTheExponentialConverges) {
  constexpr int64_t kDim = 8;
  const double x[kDim] = {0.5, -0.3, 0.2, 0.1, -0.6, 0.4, 0, 0.3};
  const double y[kDim] = {0.1, 0.4, -0.5, 0.3, -0.2, 0.6, 0.2, 0};
  const double exact = std::exp(Dot(x, y, kDim));
  const double half = (Dot(x, x, kDim) + Dot(y, y, kDim)) / 2;
  // Root mean square error over draws.
  const auto error = [&](int64_t features) {
    constexpr int kDraws = 50;
    double total = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
      const auto w = OrthogonalFeatures(features, kDim, 4, draw);
      double sum = 0;
      for (int64_t r = 0; r < features; ++r) {
        const double* row = &w[r * kDim];
        sum += std::exp(Dot(row, x, kDim) + Dot(row, y, kDim) - half);
      }
      total += std::pow(sum / features / exact - 1, 2);
    }
    return std::sqrt(total / kDraws);
  };
  const double few = error(16), many = error(1024);
  EXPECT_LT(many, 0.08);
  EXPECT_LT(many, few / 4);  // expected: few / 8
}

}  // namespace
}  // namespace mneme
