// SPDX-License-Identifier: Apache-2.0
//
// Exact causal softmax attention (arXiv 1706.03762) with grouped-query heads
// (2305.13245):
//
//   o_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(key_dim)) v_j,
//
// query head h reads key/value head floor(h * kv_heads / heads).

#ifndef MNEME_ATTENTION_PARTS_CAUSAL_ATTENTION_H_
#define MNEME_ATTENTION_PARTS_CAUSAL_ATTENTION_H_

#include <cstdint>

#include "attention/parts/attention_operator.h"
#include "attention/plugin/options.h"

namespace mneme {

class CausalAttention : public AttentionOperator {
 public:
  // Takes option `chunk` (ChunkOption, attention_mixer.h).
  explicit CausalAttention(const Options& options)
      : chunk_(options.Int("chunk")) {}

  absl::Status Forward(OperatorCall* call) const override;
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override;
  absl::Status Reference(const OperatorCall& call) const override;

 protected:
  double Pairs(const Dims& d) const override {
    return 0.5 * d.length * (d.length + 1.0);
  }

 private:
  int64_t chunk_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_CAUSAL_ATTENTION_H_
