// SPDX-License-Identifier: Apache-2.0
//
// Attention whose weights are a quadratic polynomial of the score, divided by
// their sum: what Based (arXiv 2402.18668) and ReBased (2402.10644) share.
//
//   o_i = sum_{j <= i} f(a_ij) v_j / (sum_{j <= i} f(a_ij) + eps),
//   a_ij = q_i . k_j / sqrt(key_dim),   f(a) = constant + linear a + square a^2
//
// f(a_ij) = phi(q_i) . phi(k_j) with finitely many features: with x' = x
// key_dim^-1/4, phi(x) holds sqrt(constant), sqrt(linear) x'_i, sqrt(square)
// x'_i^2 and, once per pair i < j, sqrt(2 square) x'_i x'_j. So the history
// folds into the state S = sum phi(k_j) (v_j, 1)^T, whose last column makes the
// denominator.
//
// Pairs inside a chunk never see the features: squaring a score costs one
// multiplication, expanding it about key_dim / 2 more than the score itself. A
// sequence of one chunk therefore needs neither features nor state.

#ifndef MNEME_ATTENTION_PARTS_QUADRATIC_OPERATOR_H_
#define MNEME_ATTENTION_PARTS_QUADRATIC_OPERATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/operator.h"

namespace mneme {

// Coefficients of f, none negative. A term with coefficient 0 has no features.
struct QuadraticKernel {
  double constant = 0;
  double linear = 0;
  double square = 1;

  // Entries of phi.
  int64_t Features(int64_t key_dim) const {
    return (constant > 0 ? 1 : 0) + (linear > 0 ? key_dim : 0) +
           key_dim * (key_dim + 1) / 2;
  }
};

class QuadraticOperator : public Operator {
 public:
  // chunk tokens a block in the chunked form.
  QuadraticOperator(const QuadraticKernel& kernel, double eps, int64_t chunk)
      : kernel_(kernel), eps_(eps), chunk_(chunk) {}

  std::vector<InputSpec> Inputs() const override;
  absl::Status Forward(OperatorCall* call) const override;
  absl::Status Backward(const OperatorCall& call, const Tensor& d_output,
                        absl::Span<const Tensor> d_inputs) const override;
  std::unique_ptr<State> NewState(const Dims& dims, DType dtype) const override;
  int64_t StateBytes(const Dims& dims) const override;
  Cost ForwardCost(const Dims& dims, Form form) const override;
  Cost BackwardCost(const Dims& dims, Form form) const override;
  bool StepRewritesState() const override { return true; }
  absl::Status Reference(const OperatorCall& call) const override;

 private:
  QuadraticKernel kernel_;
  double eps_;
  int64_t chunk_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_QUADRATIC_OPERATOR_H_
