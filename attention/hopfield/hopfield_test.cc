// SPDX-License-Identifier: Apache-2.0
//
// What makes it a Hopfield network: updates never raise the energy, and a
// damaged pattern is completed. With the keys as values, the operator's output
// after s updates is the state pattern xi^s itself.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// xi^updates for q and stored patterns k, [1, length, 1, dim] each.
Tensor Settle(const Tensor& q, const Tensor& k, int updates, double beta) {
  const Variant& variant = **Variants().Find("hopfield");
  const auto options = Options::Parse(
      variant.descriptor.options,
      {{"updates", std::to_string(updates)}, {"beta", std::to_string(beta)}});
  EXPECT_TRUE(options.ok()) << options.status();
  const auto op = variant.make_operator(*options);
  const std::vector<Tensor> inputs = {q, k, k};
  OperatorCall call;
  call.inputs = inputs;
  const absl::Status status = RunOperator(**op, &call);
  EXPECT_TRUE(status.ok()) << status;
  return call.output;
}

// E(xi) over the patterns 0 ... last.
double Energy(const double* xi, kernels::ConstMatrixView<double> patterns,
              int64_t last, double beta) {
  double square = 0, top = -INFINITY, sum = 0;
  std::vector<double> scores;
  for (size_t c = 0; c < patterns.cols; ++c) square += xi[c] * xi[c];
  for (int64_t j = 0; j <= last; ++j) {
    double dot = 0;
    for (size_t c = 0; c < patterns.cols; ++c) dot += patterns(j, c) * xi[c];
    scores.push_back(beta * dot);
    top = std::max(top, beta * dot);
  }
  for (double s : scores) sum += std::exp(s - top);
  return -(top + std::log(sum)) / beta + square / 2;
}

std::vector<Tensor> QueriesAndKeys(int64_t length, int64_t dim) {
  Dims dims;
  dims.length = length;
  dims.key_dim = dims.value_dim = dim;
  const std::vector<InputSpec> specs = {{"q", "BLHK", "", Domain::kReal},
                                        {"k", "BLHK", "", Domain::kReal}};
  return RandomInputs(specs, dims, DType::kFloat64, 1);
}

TEST(Hopfield, EnergyNeverRises) {
  constexpr int64_t kLength = 40, kDim = 6;
  const auto inputs = QueriesAndKeys(kLength, kDim);
  const auto patterns = inputs[1].Sequence<double>(0, 0);
  for (double beta : {0.05, 0.4, 1.0, 8.0}) {
    int falls = 0;
    Tensor xi = inputs[0];
    for (int updates = 1; updates <= 6; ++updates) {
      const Tensor next = Settle(inputs[0], inputs[1], updates, beta);
      for (int64_t i = 0; i < kLength; ++i) {
        const double before =
            Energy(xi.Sequence<double>(0, 0).row(i), patterns, i, beta);
        const double after =
            Energy(next.Sequence<double>(0, 0).row(i), patterns, i, beta);
        EXPECT_LE(after, before + 1e-12 * std::abs(before))
            << "beta " << beta << ", token " << i << ", update " << updates;
        falls += after < before - 1e-6;
      }
      xi = next;
    }
    // The first update alone moves every token.
    EXPECT_GE(falls, kLength) << "beta " << beta;
  }
}

TEST(Hopfield, ADamagedPatternIsCompleted) {
  constexpr int64_t kLength = 16, kDim = 32;
  const auto inputs = QueriesAndKeys(kLength, kDim);
  // The last token shows pattern 3 with a quarter of its entries wiped out.
  const auto q = inputs[0].Sequence<double>(0, 0);
  const auto k = inputs[1].Sequence<double>(0, 0);
  for (int64_t c = 0; c < kDim; ++c) {
    q(kLength - 1, c) = c < kDim / 4 ? 0 : k(3, c);
  }
  const Tensor xi = Settle(inputs[0], inputs[1], 3, 2.0);
  for (int64_t c = 0; c < kDim; ++c) {
    EXPECT_NEAR(xi.Sequence<double>(0, 0)(kLength - 1, c), k(3, c), 1e-3);
  }
}

}  // namespace
}  // namespace mneme
