// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention as a list of equal jobs, one a head, for contenders that
// differ in how they do one. Prefilling, a job is one query head of one
// sequence. Decoding, it is the query heads that share a key/value head, one
// row each, so that these keys and values are read once.

#ifndef MNEME_HARNESS_THROUGHPUT_PEERS_ATTENTION_WORKLOAD_H_
#define MNEME_HARNESS_THROUGHPUT_PEERS_ATTENTION_WORKLOAD_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "attention/kernels/matrix.h"
#include "attention/tensor/tensor.h"
#include "harness/throughput/contender.h"

namespace mneme::peers {

// o = softmax(scale q k^T) v by rows. If causal, q has as many rows as k, and
// row i sees keys 0 ... i; otherwise all.
struct AttentionJob {
  kernels::MatrixView<const float> q, k, v;
  kernels::MatrixView<float> o;
  float scale;
  bool causal;
};

// Queries that compositions of library calls take at once, the best of 32, 64,
// ... 1024 for oneDNN and OpenBLAS alike: the more, the better their products,
// and the more of a causal product is in vain.
inline size_t QueryBlock(size_t queries) { return queries < 512 ? 64 : 128; }

class AttentionWorkload : public Workload {
 public:
  // For kPrefill and kDecode of an operator of queries, keys and values.
  explicit AttentionWorkload(const Problem& problem);

  absl::Status Run() override;
  std::vector<Tensor> Outputs() const override { return {output_}; }

 protected:
  // At once from several threads, with different workers and jobs. May throw.
  virtual void Attend(const AttentionJob& job, int worker) = 0;

  const AttentionJob& first_job() const { return jobs_[0]; }
  int workers() const { return pool_ == nullptr ? 1 : pool_->threads(); }

 private:
  void Prefill(const Problem& problem);
  void Decode(const Problem& problem);
  void Append();

  kernels::ThreadPool* pool_;
  std::vector<Tensor> inputs_;
  Tensor output_;
  std::vector<AttentionJob> jobs_;

  // Decoding: the token to append, and all keys and values with a place for it,
  // [batch, kv_heads, context + 1, dim]: each job reads consecutive rows.
  std::vector<Tensor> step_;
  Tensor keys_, values_;
};

}  // namespace mneme::peers

#endif  // MNEME_HARNESS_THROUGHPUT_PEERS_ATTENTION_WORKLOAD_H_
