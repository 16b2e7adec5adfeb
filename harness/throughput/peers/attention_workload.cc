// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/peers/attention_workload.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>

#include "attention/kernels/parallel.h"

namespace mneme::peers {
namespace {

using kernels::MatrixView;

enum Input { kQuery, kKey, kValue };

// Row `at` of each (batch, head) matrix of `to` [batch, heads, rows, dim]
// becomes the first row of `from` [batch, length, heads, dim], and so on.
void CopyRows(const Tensor& from, const Tensor& to, int64_t at) {
  const int64_t batch = to.dim(0), heads = to.dim(1), dim = to.dim(3);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const MatrixView<const float> source = from.Sequence<float>(b, h);
      float* target =
          to.data<float>() + ((b * heads + h) * to.dim(2) + at) * dim;
      for (size_t i = 0; i < source.rows; ++i) {
        std::copy_n(source.row(i), dim, target + i * dim);
      }
    }
  }
}

}  // namespace

AttentionWorkload::AttentionWorkload(const Problem& problem)
    : pool_(problem.pool), inputs_(problem.inputs) {
  if (problem.phase == Phase::kDecode) {
    Decode(problem);
  } else {
    Prefill(problem);
  }
}

void AttentionWorkload::Prefill(const Problem& problem) {
  const Tensor &q = inputs_[kQuery], &k = inputs_[kKey], &v = inputs_[kValue];
  const int64_t heads = q.dim(2), group = heads / k.dim(2);
  const float scale = 1 / std::sqrt(static_cast<float>(q.dim(3)));
  output_ = Tensor(DType::kFloat32, {q.dim(0), q.dim(1), heads, v.dim(3)});
  for (int64_t b = 0; b < q.dim(0); ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      jobs_.push_back({q.Sequence<float>(b, h), k.Sequence<float>(b, h / group),
                       v.Sequence<float>(b, h / group),
                       output_.Sequence<float>(b, h), scale,
                       problem.variant->descriptor.causal});
    }
  }
}

void AttentionWorkload::Decode(const Problem& problem) {
  step_ = problem.step;
  const Tensor &q = step_[kQuery], &k = inputs_[kKey], &v = inputs_[kValue];
  const int64_t batch = q.dim(0), heads = q.dim(2), key_dim = q.dim(3);
  const int64_t rows = k.dim(1) + 1, kv_heads = k.dim(2), value_dim = v.dim(3);
  const float scale = 1 / std::sqrt(static_cast<float>(key_dim));
  keys_ = Tensor(DType::kFloat32, {batch, kv_heads, rows, key_dim});
  values_ = Tensor(DType::kFloat32, {batch, kv_heads, rows, value_dim});
  CopyRows(k, keys_, 0);
  CopyRows(v, values_, 0);
  output_ = Tensor(DType::kFloat32, {batch, 1, heads, value_dim});
  const size_t group = heads / kv_heads;
  for (int64_t i = 0; i < batch * kv_heads; ++i) {
    const size_t dk = key_dim, dv = value_dim, n = rows;
    jobs_.push_back({{q.data<float>() + i * group * dk, group, dk},
                     {keys_.data<float>() + i * n * dk, n, dk},
                     {values_.data<float>() + i * n * dv, n, dv},
                     {output_.data<float>() + i * group * dv, group, dv},
                     scale,
                     /*causal=*/false});
  }
}

void AttentionWorkload::Append() {
  if (step_.empty()) return;
  CopyRows(step_[kKey], keys_, keys_.dim(2) - 1);
  CopyRows(step_[kValue], values_, values_.dim(2) - 1);
}

absl::Status AttentionWorkload::Run() {
  Append();
  try {
    kernels::ParallelFor(pool_, jobs_.size(), [&](size_t i, int worker) {
      Attend(jobs_[i], worker);
    });
  } catch (const std::exception& e) {
    return absl::InternalError(e.what());
  }
  return absl::OkStatus();
}

}  // namespace mneme::peers
