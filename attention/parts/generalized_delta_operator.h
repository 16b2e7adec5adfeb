// SPDX-License-Identifier: Apache-2.0
//
// RWKV-7's operator: the generalised delta rule
// (kernels/generalized_delta.h) over all heads of a batch,
//
//   S_t = diag(e^{g_t}) S_{t-1} + b_t (S_{t-1}^T a_t)^T + k_t v_t^T,
//   o_t = S_t^T q_t.
//
// a and b may be any vectors for which the memory stays bounded; the layer
// passes a = -h and b = eta h with |h| = 1 and 0 < eta < 1.

#ifndef MNEME_ATTENTION_PARTS_GENERALIZED_DELTA_OPERATOR_H_
#define MNEME_ATTENTION_PARTS_GENERALIZED_DELTA_OPERATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/operator.h"

namespace mneme {

class GeneralizedDeltaOperator : public Operator {
 public:
  // chunk: tokens between saved states in the chunked form.
  explicit GeneralizedDeltaOperator(int64_t chunk) : chunk_(chunk) {}

  // q, k, v, g, a, b.
  std::vector<InputSpec> Inputs() const override;
  absl::Status Forward(OperatorCall* call) const override;
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override;
  std::unique_ptr<State> NewState(const Dims& dims, DType dtype) const override;
  int64_t StateBytes(const Dims& dims) const override;
  Cost ForwardCost(const Dims& dims, Form form) const override;
  Cost BackwardCost(const Dims& dims, Form form) const override;
  bool StepRewritesState() const override { return true; }
  // The plain delta rule: unit keys, a = -k and b = k.
  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override;
  absl::Status Reference(const OperatorCall& call) const override;

 private:
  // Tokens a block of the kernel, at most.
  int64_t Block(const Dims& d, Form form) const;

  int64_t chunk_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_GENERALIZED_DELTA_OPERATOR_H_
