// SPDX-License-Identifier: Apache-2.0
//
// The operator of the delta rule's variants, which differ in their decay:
//
//   S'_t = diag(e^{g_t}) S_{t-1},
//   S_t = S'_t + beta_t k_t (v_t - S'_t^T k_t)^T,
//   o_t = key_dim^-1/2 S_t^T q_t.
//
// Keys should have unit length: the write then moves what the memory answers to
// k_t from its old value to v_t by the fraction beta_t; with beta |k|^2 > 2 it
// diverges. Normalising them is the layer's (parts/delta_mixer.h).

#ifndef MNEME_ATTENTION_PARTS_DELTA_OPERATOR_H_
#define MNEME_ATTENTION_PARTS_DELTA_OPERATOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/operator.h"
#include "attention/parts/delta_heads.h"
#include "attention/plugin/options.h"

namespace mneme {

// Which log decays g there are.
enum class DeltaDecay { kNone, kPerHead, kPerKeyDim };

class DeltaOperator : public Operator {
 public:
  // Reads option "chunk".
  DeltaOperator(DeltaDecay decay, const Options& options)
      : decay_(decay), chunk_(options.Int("chunk")) {}
  static OptionSpec ChunkOption();

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
  DeltaHeads Heads(const OperatorCall& call) const;

  DeltaDecay decay_;
  int64_t chunk_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_DELTA_OPERATOR_H_
