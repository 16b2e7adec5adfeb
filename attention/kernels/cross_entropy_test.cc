// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/test_matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Doubles = std::vector<double>;

double LogSumExp(const double* x, size_t n) {
  const double max = *std::max_element(x, x + n);
  double sum = 0;
  for (size_t c = 0; c < n; ++c) sum += std::exp(x[c] - max);
  return max + std::log(sum);
}

struct OracleResult {
  Doubles losses, d_logits;
  std::vector<int32_t> predictions;
};

// Straight from the definition.
OracleResult Oracle(const Doubles& logits, const std::vector<int32_t>& labels,
                    double weight) {
  OracleResult result;
  const size_t n = logits.size() / labels.size();
  for (size_t r = 0; r < labels.size(); ++r) {
    const double* x = &logits[r * n];
    const double lse = LogSumExp(x, n);
    result.losses.push_back(lse - x[labels[r]]);
    result.predictions.push_back(
        static_cast<int32_t>(std::max_element(x, x + n) - x));
    for (size_t c = 0; c < n; ++c) {
      const double onehot = static_cast<int32_t>(c) == labels[r] ? 1 : 0;
      result.d_logits.push_back(weight * (std::exp(x[c] - lse) - onehot));
    }
  }
  return result;
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 4 ? 2e-6 : 1e-14;

template <typename T>
class CrossEntropyTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(CrossEntropyTest, Types);

TYPED_TEST(CrossEntropyTest, MatchesDefinition) {
  using T = TypeParam;
  constexpr T kWeight = T(0.125);
  for (const size_t rows : {0, 1, 3}) {
    for (const size_t classes :
         {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 127, 130, 1000, 8192}) {
      for (const double deviation : {0.1, 1.0, 30.0}) {
        const auto logits = TestMatrix<T>::Random(
            rows, classes, 3, rows * 10000 + classes, deviation);
        std::vector<int32_t> labels;
        for (size_t r = 0; r < rows; ++r) {
          labels.push_back(static_cast<int32_t>((r * 37 + 5) % classes));
        }
        const OracleResult expected =
            rows == 0
                ? OracleResult()
                : Oracle(logits.template Values<double>(), labels, kWeight);
        ForEachSimdTarget([&] {
          SCOPED_TRACE(testing::Message()
                       << "rows " << rows << " classes " << classes);
          std::vector<T> losses(rows), again(rows);
          std::vector<int32_t> predictions(rows);
          TestMatrix<T> d_logits(rows, classes, 1, -1);
          SoftmaxCrossEntropy(logits.view(), labels.data(), kWeight,
                              losses.data(), predictions.data(),
                              d_logits.view());
          ExpectNear(expected.losses, losses, kTolerance<T>, kTolerance<T>,
                     "loss");
          ExpectNear(expected.d_logits, d_logits.Values(), kTolerance<T> * 10,
                     kTolerance<T> * 0.1, "d_logits");
          EXPECT_EQ(predictions, expected.predictions);
          EXPECT_TRUE(d_logits.GapsIntact());

          TestMatrix<T> in_place = logits;
          SoftmaxCrossEntropy(in_place.view(), labels.data(), kWeight,
                              again.data(), nullptr, in_place.view());
          EXPECT_EQ(again, losses);
          EXPECT_EQ(in_place.Values(), d_logits.Values());
        });
      }
    }
  }
}

TYPED_TEST(CrossEntropyTest, GradientMatchesCentralDifferences) {
  using T = TypeParam;
  const std::vector<int32_t> labels = {0, 18, 7};
  const auto logits = TestMatrix<T>::Random(3, 19, 0, 1);
  Doubles oracle_logits = logits.template Values<double>();
  const Doubles expected = CentralDifferences(&oracle_logits, [&] {
    double sum = 0;
    for (const double loss : Oracle(oracle_logits, labels, 1).losses) {
      sum += loss;
    }
    return sum;
  });
  ForEachSimdTarget([&] {
    TestMatrix<T> d_logits(3, 19, 0);
    SoftmaxCrossEntropy(logits.view(), labels.data(), T(1), nullptr, nullptr,
                        d_logits.view());
    ExpectNear(expected, d_logits.Values(), 1e-3, 1e-5, "d_logits");
  });
}

TYPED_TEST(CrossEntropyTest, OutputsAreIndependent) {
  using T = TypeParam;
  const std::vector<int32_t> labels = {3, 20};
  const auto logits = TestMatrix<T>::Random(2, 21, 0, 1);
  ForEachSimdTarget([&] {
    std::vector<T> losses(2), only_losses(2);
    std::vector<int32_t> predictions(2), only_predictions(2);
    TestMatrix<T> d_logits(2, 21, 0), only_d_logits(2, 21, 0);
    SoftmaxCrossEntropy(logits.view(), labels.data(), T(2), losses.data(),
                        predictions.data(), d_logits.view());
    SoftmaxCrossEntropy(logits.view(), labels.data(), T(2), only_losses.data(),
                        nullptr, MatrixView<T>());
    SoftmaxCrossEntropy(logits.view(), labels.data(), T(2), nullptr,
                        only_predictions.data(), MatrixView<T>());
    SoftmaxCrossEntropy(logits.view(), labels.data(), T(2), nullptr, nullptr,
                        only_d_logits.view());
    EXPECT_EQ(only_losses, losses);
    EXPECT_EQ(only_predictions, predictions);
    EXPECT_EQ(only_d_logits.Values(), d_logits.Values());
  });
}

TYPED_TEST(CrossEntropyTest, PredictsTheFirstOfEqualMaxima) {
  using T = TypeParam;
  ForEachSimdTarget([] {
    for (const size_t classes : {1, 5, 16, 40, 67}) {
      for (size_t first = 0; first < classes; ++first) {
        std::vector<T> logits(classes, -2);
        for (size_t c = first; c < classes; c += 3) logits[c] = -1;
        int32_t prediction = -1;
        SoftmaxCrossEntropy(MatrixView<const T>(logits.data(), 1, classes),
                            nullptr, T(1), nullptr, &prediction,
                            MatrixView<T>());
        EXPECT_EQ(prediction, static_cast<int32_t>(first));
      }
    }
  });
}

TYPED_TEST(CrossEntropyTest, NanAndInfinity) {
  using T = TypeParam;
  constexpr T kInf = std::numeric_limits<T>::infinity();
  ForEachSimdTarget([&] {
    for (const size_t classes : {1, 5, 16, 40, 67}) {
      for (size_t bad = 0; bad < classes; ++bad) {
        std::vector<T> logits(classes, T(0.5));
        const int32_t label = 0;
        T loss = 0;
        int32_t prediction = -1;
        const auto run = [&](T value) {
          logits[bad] = value;
          SoftmaxCrossEntropy(MatrixView<const T>(logits.data(), 1, classes),
                              &label, T(1), &loss, &prediction,
                              MatrixView<T>());
        };
        run(std::numeric_limits<T>::quiet_NaN());
        EXPECT_TRUE(std::isnan(loss)) << classes << " " << bad;
        EXPECT_GE(prediction, 0);
        EXPECT_LT(prediction, static_cast<int32_t>(classes));
        if (classes == 1) continue;
        // An impossible class: no probability, infinite loss as the label.
        run(-kInf);
        if (bad == 0) {
          EXPECT_EQ(loss, kInf);
        } else {
          EXPECT_NEAR(loss, std::log(classes - 1.0), 1e-6);
        }
        EXPECT_EQ(prediction, bad == 0 ? 1 : 0);
      }
    }
  });
}

}  // namespace
}  // namespace mneme::kernels
