// SPDX-License-Identifier: Apache-2.0
//
// The gradients of softmax attention, for contenders that differ in whose
// matrix products they are made of. With the log-sum-exp of each query's scores
// from the forward, which is Mneme's and not timed, a tile of queries by keys
// needs nothing of others: five products and a pass over its scores,
//
//   P = exp(scale Q K^T - lse)           d_V += P^T d_O
//   d_S = P (d_O V^T - o . d_o) scale    d_Q += d_S K,  d_K += d_S^T Q
//
// with P and d_S of a tile in the second-level cache. A causal tile on the
// diagonal ends with its last query's own key, so that only in its last square
// is anything computed in vain.

#ifndef MNEME_HARNESS_THROUGHPUT_PEERS_ATTENTION_GRADIENT_WORKLOAD_H_
#define MNEME_HARNESS_THROUGHPUT_PEERS_ATTENTION_GRADIENT_WORKLOAD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "attention/tensor/tensor.h"
#include "harness/throughput/contender.h"

namespace mneme::peers {

class AttentionGradientWorkload : public Workload {
 public:
  // For kBackward of an operator of queries, keys and values.
  explicit AttentionGradientWorkload(const Problem& problem);

  // Gradients are added to what is there, as Mneme's own are.
  absl::Status Run() override;
  int64_t RunsBeforeRewind() const override { return 1 << 10; }
  absl::Status Rewind() override;
  std::vector<Tensor> Outputs() const override { return gradients_; }

 protected:
  // C = alpha op(A) op(B) + beta C, beta being 0 (C may hold anything) or 1. At
  // once from several threads, with different workers. May throw.
  virtual void Multiply(kernels::Transpose transpose_a,
                        kernels::Transpose transpose_b,
                        kernels::MatrixView<const float> a,
                        kernels::MatrixView<const float> b,
                        kernels::MatrixView<float> c, float alpha, float beta,
                        int worker) = 0;

  int workers() const { return static_cast<int>(scratch_.size()); }

 private:
  // The arrays of one query head.
  struct Head {
    kernels::MatrixView<const float> q, k, v, o, d_o;
    const float* lse;
    kernels::MatrixView<float> d_q, d_k, d_v;
  };
  struct Scratch {
    std::vector<float> weights, d_scores;  // of a tile
    std::vector<float> mean;               // o . d_o, of all queries
  };

  Head HeadOf(int64_t b, int64_t h) const;
  void Differentiate(const Head& head, int worker);
  void DifferentiateTile(const Head& head, size_t first, size_t rows,
                         size_t first_key, size_t keys, int worker);

  kernels::ThreadPool* pool_;
  std::vector<Tensor> inputs_;
  Tensor d_output_, output_;
  Tensor lse_;  // [batch, heads, length]
  float scale_;
  bool causal_;
  std::vector<Tensor> gradients_;
  std::vector<Scratch> scratch_;  // by worker
};

}  // namespace mneme::peers

#endif  // MNEME_HARNESS_THROUGHPUT_PEERS_ATTENTION_GRADIENT_WORKLOAD_H_
