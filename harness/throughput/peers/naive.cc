// SPDX-License-Identifier: Apache-2.0
//
// Contender "naive": the definitions as loops in plain C++, as one writes them
// down who leaves the rest to the compiler. What a mechanism costs before
// anybody has thought about it.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "harness/throughput/contender.h"
#include "harness/throughput/peers/attention_gradient_workload.h"
#include "harness/throughput/peers/attention_workload.h"
#include "harness/throughput/peers/linear_workload.h"

namespace mneme::peers {
namespace {

using kernels::MatrixView;
using kernels::Transpose;

constexpr double kTolerance = 1e-5;

class NaiveAttention : public AttentionWorkload {
 public:
  using AttentionWorkload::AttentionWorkload;

 private:
  void Attend(const AttentionJob& job, int /*worker*/) override {
    const auto& [q, k, v, o, scale, causal] = job;
    std::vector<float> weight(k.rows);
    for (size_t i = 0; i < q.rows; ++i) {
      const size_t seen = causal ? i + 1 : k.rows;
      float largest = -INFINITY;
      for (size_t j = 0; j < seen; ++j) {
        float dot = 0;
        for (size_t c = 0; c < q.cols; ++c) dot += q(i, c) * k(j, c);
        weight[j] = scale * dot;
        largest = std::max(largest, weight[j]);
      }
      float total = 0;
      for (size_t j = 0; j < seen; ++j) {
        weight[j] = std::exp(weight[j] - largest);
        total += weight[j];
      }
      for (size_t c = 0; c < v.cols; ++c) o(i, c) = 0;
      for (size_t j = 0; j < seen; ++j) {
        for (size_t c = 0; c < v.cols; ++c) {
          o(i, c) += weight[j] / total * v(j, c);
        }
      }
    }
  }
};

class NaiveAttentionGradient : public AttentionGradientWorkload {
 public:
  using AttentionGradientWorkload::AttentionGradientWorkload;

 private:
  void Multiply(Transpose transpose_a, Transpose transpose_b,
                MatrixView<const float> a, MatrixView<const float> b,
                MatrixView<float> c, float alpha, float beta,
                int /*worker*/) override {
    const bool turn_a = transpose_a == Transpose::kYes;
    const bool turn_b = transpose_b == Transpose::kYes;
    const size_t depth = turn_a ? a.rows : a.cols;
    for (size_t i = 0; i < c.rows; ++i) {
      for (size_t j = 0; j < c.cols; ++j) {
        float sum = 0;
        for (size_t m = 0; m < depth; ++m) {
          sum += (turn_a ? a(m, i) : a(i, m)) * (turn_b ? b(j, m) : b(m, j));
        }
        c(i, j) = alpha * sum + (beta == 0 ? 0 : beta * c(i, j));
      }
    }
  }
};

// Token by token, as the recurrence is written.
class NaiveLinear : public LinearWorkload {
 public:
  using LinearWorkload::LinearWorkload;

 private:
  void Attend(const LinearJob& job, int /*worker*/) override {
    const auto& [q, k, v, o] = job;
    std::vector<float> state(q.cols * v.cols), normaliser(q.cols);
    for (size_t t = 0; t < q.rows; ++t) {
      for (size_t c = 0; c < k.cols; ++c) {
        const float key = Feature(k(t, c));
        normaliser[c] += key;
        for (size_t d = 0; d < v.cols; ++d) {
          state[c * v.cols + d] += key * v(t, d);
        }
      }
      float total = kLinearEps;
      for (size_t d = 0; d < v.cols; ++d) o(t, d) = 0;
      for (size_t c = 0; c < q.cols; ++c) {
        const float query = Feature(q(t, c));
        total += query * normaliser[c];
        for (size_t d = 0; d < v.cols; ++d) {
          o(t, d) += query * state[c * v.cols + d];
        }
      }
      for (size_t d = 0; d < v.cols; ++d) o(t, d) /= total;
    }
  }

  static float Feature(float x) { return x > 0 ? x + 1 : std::exp(x); }
};

template <class W>
absl::StatusOr<std::unique_ptr<Workload>> Make(const Problem& problem) {
  return std::make_unique<W>(problem);
}

const bool kRegistered[] = {
    RegisterContender({"naive", "softmax", Phase::kPrefill, kTolerance,
                       Make<NaiveAttention>}),
    RegisterContender(
        {"naive", "softmax", Phase::kDecode, kTolerance, Make<NaiveAttention>}),
    RegisterContender({"naive", "softmax", Phase::kBackward, kTolerance,
                       Make<NaiveAttentionGradient>}),
    RegisterContender(
        {"naive", "linear", Phase::kPrefill, kTolerance, Make<NaiveLinear>}),
};

}  // namespace
}  // namespace mneme::peers
