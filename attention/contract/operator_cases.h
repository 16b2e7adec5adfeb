// SPDX-License-Identifier: Apache-2.0
//
// The cases that the operator half of the contract test runs, and ways to run
// them.

#ifndef MNEME_ATTENTION_CONTRACT_OPERATOR_CASES_H_
#define MNEME_ATTENTION_CONTRACT_OPERATOR_CASES_H_

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "attention/contract/contract_util.h"
#include "attention/operator.h"
#include "attention/variant.h"
#include "gtest/gtest.h"

namespace mneme::contract {

inline constexpr Form kForms[] = {Form::kParallel, Form::kChunked,
                                  Form::kRecurrent};

// dims with a size for every axis that is the operator's own.
Dims WithOwnAxes(const Operator& op, Dims dims);

// Sizes with nothing in common, grouped heads where the operator has them.
std::vector<Dims> SizesToTry(const Operator& op, int64_t length);

// One evaluation that owns what it needs.
struct Evaluation {
  std::vector<Tensor> inputs;
  OperatorCall call;

  Evaluation(std::vector<Tensor> in, Form form, State* state = nullptr)
      : inputs(std::move(in)) {
    call.inputs = inputs;
    call.form = form;
    call.state = state;
  }
  const Tensor& operator()(const Operator& op) {
    const absl::Status status = RunOperator(op, &call);
    EXPECT_TRUE(status.ok()) << status;
    return call.output;
  }
};

// The output of one evaluation.
Tensor Forward(const Operator& op, std::vector<Tensor> inputs, Form form,
               State* state = nullptr);

// The output of Reference on the same inputs, in float64.
Tensor Oracle(const Operator& op, const std::vector<Tensor>& inputs,
              const Dims& dims);

// Whether an input holds something for every token; others are parameters of
// the mechanism, the same for the whole sequence.
bool PerToken(const InputSpec& spec);

// Tokens [first, first + count) of all inputs that have tokens.
std::vector<Tensor> TokensOf(const Operator& op,
                             const std::vector<Tensor>& inputs, int64_t first,
                             int64_t count);

// body(variant, op) for every variant that has an operator.
void ForEachOperator(
    const std::function<void(const Variant&, const Operator&)>& body);

// body(variant, op, dims) for every operator, length and size.
void ForEachCase(const std::function<void(const Variant&, const Operator&,
                                          const Dims&)>& body);

}  // namespace mneme::contract

#endif  // MNEME_ATTENTION_CONTRACT_OPERATOR_CASES_H_
