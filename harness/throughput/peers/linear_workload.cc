// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/peers/linear_workload.h"

#include <cstddef>
#include <cstdint>

#include "attention/kernels/parallel.h"

namespace mneme::peers {
namespace {

enum Input { kQuery, kKey, kValue };

}  // namespace

LinearWorkload::LinearWorkload(const Problem& problem)
    : pool_(problem.pool), inputs_(problem.inputs) {
  const Tensor &q = inputs_[kQuery], &k = inputs_[kKey], &v = inputs_[kValue];
  output_ = Tensor(DType::kFloat32, v.shape());
  for (int64_t b = 0; b < q.dim(0); ++b) {
    for (int64_t h = 0; h < q.dim(2); ++h) {
      jobs_.push_back({q.Sequence<float>(b, h), k.Sequence<float>(b, h),
                       v.Sequence<float>(b, h), output_.Sequence<float>(b, h)});
    }
  }
}

absl::Status LinearWorkload::Run() {
  kernels::ParallelFor(pool_, jobs_.size(),
                       [&](size_t i, int worker) { Attend(jobs_[i], worker); });
  return absl::OkStatus();
}

}  // namespace mneme::peers
