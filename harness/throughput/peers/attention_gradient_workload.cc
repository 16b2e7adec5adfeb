// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/peers/attention_gradient_workload.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "harness/throughput/peers/plain_rows.h"

namespace mneme::peers {
namespace {

using kernels::MatrixView;
using kernels::Transpose;

enum Input { kQuery, kKey, kValue };

constexpr Transpose kNo = Transpose::kNo;
constexpr Transpose kYes = Transpose::kYes;

// A tile, whose weights and gradients of scores are half a mebibyte.
constexpr size_t kQueries = 128, kKeys = 512;
// The first queries that see a tile's keys begin with its first key.
static_assert(kKeys % kQueries == 0);

}  // namespace

AttentionGradientWorkload::AttentionGradientWorkload(const Problem& problem)
    : pool_(problem.pool),
      inputs_(problem.inputs),
      d_output_(problem.d_output),
      output_(DType::kFloat32, d_output_.shape()),
      scale_(1 / std::sqrt(static_cast<float>(inputs_[kQuery].dim(3)))),
      causal_(problem.variant->descriptor.causal) {
  for (const Tensor& input : inputs_) {
    gradients_.emplace_back(DType::kFloat32, input.shape());
  }
  const int64_t batch = d_output_.dim(0), length = d_output_.dim(1),
                heads = d_output_.dim(2);
  lse_ = Tensor(DType::kFloat32, {batch, heads, length});
  kernels::AttentionMask mask;
  mask.causal = causal_;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const Head head = HeadOf(b, h);
      kernels::SoftmaxAttentionForward(
          head.q, head.k, head.v, scale_, mask, output_.Sequence<float>(b, h),
          lse_.data<float>() + (b * heads + h) * length);
    }
  }
  scratch_.resize(pool_ == nullptr ? 1 : pool_->threads());
  for (Scratch& scratch : scratch_) {
    scratch.weights.resize(kQueries * kKeys);
    scratch.d_scores.resize(kQueries * kKeys);
    scratch.mean.resize(length);
  }
}

AttentionGradientWorkload::Head AttentionGradientWorkload::HeadOf(
    int64_t b, int64_t h) const {
  const int64_t heads = d_output_.dim(2), length = d_output_.dim(1);
  const int64_t g = h * inputs_[kKey].dim(2) / heads;
  return {inputs_[kQuery].Sequence<float>(b, h),
          inputs_[kKey].Sequence<float>(b, g),
          inputs_[kValue].Sequence<float>(b, g),
          output_.Sequence<float>(b, h),
          d_output_.Sequence<float>(b, h),
          lse_.data<float>() + (b * heads + h) * length,
          gradients_[kQuery].Sequence<float>(b, h),
          gradients_[kKey].Sequence<float>(b, g),
          gradients_[kValue].Sequence<float>(b, g)};
}

void AttentionGradientWorkload::Differentiate(const Head& head, int worker) {
  std::vector<float>& mean = scratch_[worker].mean;
  for (size_t i = 0; i < head.q.rows; ++i) {
    mean[i] = DotRow(head.o.row(i), head.d_o.row(i), head.o.cols);
  }
  // Keys outside: their gradients stay in a cache.
  for (size_t first_key = 0; first_key < head.k.rows; first_key += kKeys) {
    const size_t end = std::min(first_key + kKeys, head.k.rows);
    size_t first = causal_ ? first_key : 0;
    for (; first < head.q.rows; first += kQueries) {
      const size_t rows = std::min(kQueries, head.q.rows - first);
      const size_t seen = causal_ ? std::min(end, first + rows) : end;
      DifferentiateTile(head, first, rows, first_key, seen - first_key, worker);
    }
  }
}

void AttentionGradientWorkload::DifferentiateTile(const Head& head,
                                                  size_t first, size_t rows,
                                                  size_t first_key, size_t keys,
                                                  int worker) {
  Scratch& scratch = scratch_[worker];
  const MatrixView<float> weights(scratch.weights.data(), rows, keys);
  const MatrixView<float> d_scores(scratch.d_scores.data(), rows, keys);
  const MatrixView<const float> q = head.q.Rows(first, rows);
  const MatrixView<const float> d_o = head.d_o.Rows(first, rows);
  const MatrixView<const float> k = head.k.Rows(first_key, keys);
  const MatrixView<const float> v = head.v.Rows(first_key, keys);
  Multiply(kNo, kYes, q, k, weights, scale_, 0, worker);
  Multiply(kNo, kYes, d_o, v, d_scores, 1, 0, worker);
  for (size_t i = 0; i < rows; ++i) {
    const size_t query = first + i;
    const size_t seen = causal_ ? std::min(keys, query + 1 - first_key) : keys;
    SoftmaxGradientRow(head.lse[query], scratch.mean[query], scale_, seen,
                       weights.row(i), d_scores.row(i));
    std::fill(weights.row(i) + seen, weights.row(i) + keys, 0.0f);
    std::fill(d_scores.row(i) + seen, d_scores.row(i) + keys, 0.0f);
  }
  Multiply(kYes, kNo, weights, d_o, head.d_v.Rows(first_key, keys), 1, 1,
           worker);
  Multiply(kNo, kNo, d_scores, k, head.d_q.Rows(first, rows), 1, 1, worker);
  Multiply(kYes, kNo, d_scores, q, head.d_k.Rows(first_key, keys), 1, 1,
           worker);
}

absl::Status AttentionGradientWorkload::Rewind() {
  for (const Tensor& gradient : gradients_) Tensor(gradient).FillZero();
  return absl::OkStatus();
}

absl::Status AttentionGradientWorkload::Run() {
  const int64_t kv_heads = inputs_[kKey].dim(2);
  const int64_t group = d_output_.dim(2) / kv_heads;
  // Heads that share keys add to the same gradients.
  try {
    kernels::ParallelFor(
        pool_, d_output_.dim(0) * kv_heads, [&](size_t i, int worker) {
          const int64_t b = static_cast<int64_t>(i) / kv_heads;
          const int64_t g = static_cast<int64_t>(i) % kv_heads;
          for (int64_t h = g * group; h < (g + 1) * group; ++h) {
            Differentiate(HeadOf(b, h), worker);
          }
        });
  } catch (const std::exception& e) {
    return absl::InternalError(e.what());
  }
  return absl::OkStatus();
}

}  // namespace mneme::peers
