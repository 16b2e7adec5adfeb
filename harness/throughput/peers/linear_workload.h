// SPDX-License-Identifier: Apache-2.0
//
// Prefilling linear attention (arXiv 2006.16236) as a list of equal jobs, one a
// head, for contenders that differ in how they do one.

#ifndef MNEME_HARNESS_THROUGHPUT_PEERS_LINEAR_WORKLOAD_H_
#define MNEME_HARNESS_THROUGHPUT_PEERS_LINEAR_WORKLOAD_H_

#include <vector>

#include "absl/status/status.h"
#include "attention/kernels/matrix.h"
#include "attention/tensor/tensor.h"
#include "harness/throughput/contender.h"

namespace mneme::peers {

// Added to the denominator, as the variant has it.
inline constexpr float kLinearEps = 1e-6f;

// o_t = sum_{s <= t} w_ts v_s / (sum_{s <= t} w_ts + eps),
// w_ts = phi(q_t) . phi(k_s), phi(x) = elu(x) + 1.
struct LinearJob {
  kernels::MatrixView<const float> q, k, v;
  kernels::MatrixView<float> o;
};

class LinearWorkload : public Workload {
 public:
  explicit LinearWorkload(const Problem& problem);

  absl::Status Run() override;
  std::vector<Tensor> Outputs() const override { return {output_}; }

 protected:
  // At once from several threads, with different workers and jobs.
  virtual void Attend(const LinearJob& job, int worker) = 0;

  const LinearJob& first_job() const { return jobs_[0]; }
  int workers() const { return pool_ == nullptr ? 1 : pool_->threads(); }

 private:
  kernels::ThreadPool* pool_;
  std::vector<Tensor> inputs_;
  Tensor output_;
  std::vector<LinearJob> jobs_;
};

}  // namespace mneme::peers

#endif  // MNEME_HARNESS_THROUGHPUT_PEERS_LINEAR_WORKLOAD_H_
