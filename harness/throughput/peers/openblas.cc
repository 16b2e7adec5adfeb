// SPDX-License-Identifier: Apache-2.0
//
// Contender "openblas": attention put together from OpenBLAS's products, with
// plain loops between them.

#include <algorithm>
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
#include "harness/throughput/peers/open_blas.h"
#include "harness/throughput/peers/plain_rows.h"

namespace mneme::peers {
namespace {

using kernels::MatrixView;
using kernels::Transpose;

constexpr double kTolerance = 1e-5;
constexpr Transpose kNo = Transpose::kNo;
constexpr Transpose kYes = Transpose::kYes;

// Scores of a block of queries, their softmax, and its product with the values.
// A causal block sees the keys up to its own end, so that only in its last
// square is anything computed in vain.
class OpenBlasAttention : public AttentionWorkload {
 public:
  explicit OpenBlasAttention(const Problem& problem)
      : AttentionWorkload(problem), scores_(workers()) {
    const AttentionJob& job = first_job();
    const size_t block = QueryBlock(job.q.rows);
    for (std::vector<float>& scores : scores_) {
      scores.resize(std::min(block, job.q.rows) * job.k.rows);
    }
  }

 private:
  void Attend(const AttentionJob& job, int worker) override {
    const size_t block = QueryBlock(job.q.rows);
    for (size_t first = 0; first < job.q.rows; first += block) {
      const size_t rows = std::min(block, job.q.rows - first);
      const size_t keys = job.causal ? first + rows : job.k.rows;
      const MatrixView<float> scores(scores_[worker].data(), rows, keys);
      OpenBlasMultiply(kNo, kYes, job.q.Rows(first, rows), job.k.Rows(0, keys),
                       scores, job.scale);
      for (size_t i = 0; i < rows; ++i) {
        const size_t seen = job.causal ? first + i + 1 : keys;
        SoftmaxRow(scores.row(i), seen);
        std::fill(scores.row(i) + seen, scores.row(i) + keys, 0.0f);
      }
      OpenBlasMultiply(kNo, kNo, scores, job.v.Rows(0, keys),
                       job.o.Rows(first, rows));
    }
  }

  std::vector<std::vector<float>> scores_;  // by worker
};

class OpenBlasAttentionGradient : public AttentionGradientWorkload {
 public:
  using AttentionGradientWorkload::AttentionGradientWorkload;

 private:
  void Multiply(Transpose transpose_a, Transpose transpose_b,
                MatrixView<const float> a, MatrixView<const float> b,
                MatrixView<float> c, float alpha, float beta,
                int /*worker*/) override {
    OpenBlasMultiply(transpose_a, transpose_b, a, b, c, alpha, beta);
  }
};

// The chunked form: within a chunk as attention, and what is before it through
// the state and the sum of its keys.
class OpenBlasLinear : public LinearWorkload {
 public:
  explicit OpenBlasLinear(const Problem& problem)
      : LinearWorkload(problem), scratch_(workers()) {
    const size_t dk = first_job().q.cols, dv = first_job().v.cols;
    for (Scratch& s : scratch_) {
      s.q.resize(kChunk * dk);
      s.k.resize(kChunk * dk);
      s.weights.resize(kChunk * kChunk);
      s.state.resize(dk * dv);
      s.normaliser.resize(dk);
      s.total.resize(kChunk);
    }
  }

 private:
  static constexpr size_t kChunk = 32;  // the best of 32, 64, 128, 256

  struct Scratch {
    std::vector<float> q, k;  // features of a chunk
    std::vector<float> weights;
    std::vector<float> state;       // [key_dim, value_dim]
    std::vector<float> normaliser;  // [key_dim]
    std::vector<float> total;
  };

  void Attend(const LinearJob& job, int worker) override {
    Scratch& s = scratch_[worker];
    std::fill(s.state.begin(), s.state.end(), 0.0f);
    std::fill(s.normaliser.begin(), s.normaliser.end(), 0.0f);
    for (size_t first = 0; first < job.q.rows; first += kChunk) {
      const size_t rows = std::min(kChunk, job.q.rows - first);
      AttendChunk(job.q.Rows(first, rows), job.k.Rows(first, rows),
                  job.v.Rows(first, rows), job.o.Rows(first, rows), s);
    }
  }

  static void AttendChunk(MatrixView<const float> q_raw,
                          MatrixView<const float> k_raw,
                          MatrixView<const float> v, MatrixView<float> o,
                          Scratch& s) {
    const size_t rows = q_raw.rows, dk = q_raw.cols;
    const MatrixView<float> q(s.q.data(), rows, dk), k(s.k.data(), rows, dk);
    const MatrixView<float> weights(s.weights.data(), rows, rows);
    const MatrixView<float> state(s.state.data(), dk, v.cols);
    for (size_t i = 0; i < rows; ++i) {
      EluPlusOneRow(q_raw.row(i), dk, q.row(i));
      EluPlusOneRow(k_raw.row(i), dk, k.row(i));
    }
    OpenBlasMultiply(kNo, kYes, q, k, weights);
    const MatrixView<float> total(s.total.data(), 1, rows);
    OpenBlasMultiply(kNo, kYes, {s.normaliser.data(), 1, dk}, q, total);
    for (size_t i = 0; i < rows; ++i) {
      std::fill(weights.row(i) + i + 1, weights.row(i) + rows, 0.0f);
      total(0, i) += SumRow(weights.row(i), i + 1) + kLinearEps;
    }
    OpenBlasMultiply(kNo, kNo, weights, v, o);
    OpenBlasMultiply(kNo, kNo, q, state, o, 1, 1);
    for (size_t i = 0; i < rows; ++i) {
      ScaleRow(1 / total(0, i), o.row(i), o.cols);
    }
    OpenBlasMultiply(kYes, kNo, k, v, state, 1, 1);
    for (size_t i = 0; i < rows; ++i) {
      AddRow(k.row(i), dk, s.normaliser.data());
    }
  }

  std::vector<Scratch> scratch_;  // by worker
};

template <class W>
absl::StatusOr<std::unique_ptr<Workload>> Make(const Problem& problem) {
  if (absl::Status status = CheckOpenBlas(); !status.ok()) return status;
  return std::make_unique<W>(problem);
}

const bool kRegistered[] = {
    RegisterContender({"openblas", "softmax", Phase::kPrefill, kTolerance,
                       Make<OpenBlasAttention>}),
    RegisterContender({"openblas", "softmax", Phase::kDecode, kTolerance,
                       Make<OpenBlasAttention>}),
    RegisterContender({"openblas", "softmax", Phase::kBackward, kTolerance,
                       Make<OpenBlasAttentionGradient>}),
    RegisterContender({"openblas", "linear", Phase::kPrefill, kTolerance,
                       Make<OpenBlasLinear>}),
};

}  // namespace
}  // namespace mneme::peers
