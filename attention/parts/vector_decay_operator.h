// SPDX-License-Identifier: Apache-2.0
//
// The operator of gated linear attention and RWKV-6: a linear memory in which
// every key dimension fades at its own rate, given for each token
// (kernels/vector_decay_recurrence.h).

#ifndef MNEME_ATTENTION_PARTS_VECTOR_DECAY_OPERATOR_H_
#define MNEME_ATTENTION_PARTS_VECTOR_DECAY_OPERATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/operator.h"

namespace mneme {

class VectorDecayOperator : public Operator {
 public:
  struct Rule {
    // Adds an input u [heads, key_dim] and reads as RWKV-6 does, before decay
    // and write: the token itself is seen through u alone.
    bool bonus = false;
    bool scaled = true;  // outputs times key_dim^-1/2
  };

  VectorDecayOperator(const Rule& rule, int64_t chunk)
      : rule_(rule), chunk_(chunk) {}

  // q, k, v, g and, with a bonus, u.
  std::vector<InputSpec> Inputs() const override;
  absl::Status Forward(OperatorCall* call) const override;
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override;
  std::unique_ptr<State> NewState(const Dims& dims, DType dtype) const override;
  int64_t StateBytes(const Dims& dims) const override;
  Cost ForwardCost(const Dims& dims, Form form) const override;
  Cost BackwardCost(const Dims& dims, Form form) const override;
  bool StepRewritesState() const override { return true; }
  // A bonus of 1 shows the token as if it had been written before the read.
  absl::StatusOr<std::vector<Tensor>> PairInputs(
      const Tensor& queries, const Tensor& keys,
      const Tensor& values) const override;
  absl::Status Reference(const OperatorCall& call) const override;

 private:
  double Scale(const Dims& dims) const;
  // Tokens a block of the kernel, at most.
  int64_t Block(const Dims& d, Form form) const;

  Rule rule_;
  int64_t chunk_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_VECTOR_DECAY_OPERATOR_H_
