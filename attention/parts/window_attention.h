// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention over the last `window` tokens, the query's own included,
//
//   o_i = sum_{i - window < j <= i} softmax_j(q_i . k_j / sqrt(key_dim)) v_j:
//
// a mechanism of its own, and the local half of hybrids. Decoding keeps a ring
// of keys and values (window_cache.h): the sum over keys has no order, so the
// ring is read where it lies.

#ifndef MNEME_ATTENTION_PARTS_WINDOW_ATTENTION_H_
#define MNEME_ATTENTION_PARTS_WINDOW_ATTENTION_H_

#include <cstdint>
#include <memory>

#include "attention/kernels/softmax_attention.h"
#include "attention/parts/attention_operator.h"
#include "attention/parts/window_cache.h"

namespace mneme {

class WindowAttention : public AttentionOperator {
 public:
  // chunk: query tokens a block in the chunked form.
  WindowAttention(int64_t window, int64_t chunk)
      : window_(window), chunk_(chunk) {}

  absl::Status Forward(OperatorCall* call) const override;
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override;
  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override;
  int64_t StateBytes(const Dims& d) const override;
  Cost StepCost(const Dims& d) const override;
  absl::Status Reference(const OperatorCall& call) const override;

 protected:
  double Pairs(const Dims& d) const override;

 private:
  kernels::AttentionMask Mask(int64_t query_offset) const;

  int64_t window_, chunk_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_WINDOW_ATTENTION_H_
