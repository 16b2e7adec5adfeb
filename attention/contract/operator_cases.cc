// SPDX-License-Identifier: Apache-2.0

#include "attention/contract/operator_cases.h"

#include <string>

namespace mneme::contract {

Dims WithOwnAxes(const Operator& op, Dims dims) {
  for (const InputSpec& spec : op.Inputs()) {
    for (char letter : spec.axes) {
      if (std::string("BLHGKV").find(letter) == std::string::npos) {
        dims.own[letter] = op.OwnAxis(letter, dims);
      }
    }
  }
  return dims;
}

std::vector<Dims> SizesToTry(const Operator& op, int64_t length) {
  bool grouped = false;
  for (const InputSpec& spec : op.Inputs()) {
    grouped = grouped || spec.axes.find('G') != std::string::npos;
  }
  std::vector<Dims> sizes = {{1, length, 1, 1, 4, 3, {}},
                             {3, length, 4, 4, 6, 5, {}}};
  if (grouped) sizes.push_back({2, length, 6, 2, 8, 7, {}});
  for (Dims& dims : sizes) dims = WithOwnAxes(op, dims);
  return sizes;
}

Tensor Forward(const Operator& op, std::vector<Tensor> inputs, Form form,
               State* state) {
  return Evaluation(std::move(inputs), form, state)(op);
}

Tensor Oracle(const Operator& op, const std::vector<Tensor>& inputs,
              const Dims& dims) {
  std::vector<Tensor> doubles;
  for (const Tensor& x : inputs) doubles.push_back(x.Cast(DType::kFloat64));
  OperatorCall call;
  call.inputs = doubles;
  call.dims = dims;
  call.output = Tensor(DType::kFloat64,
                       {dims.batch, dims.length, dims.heads, dims.value_dim});
  const absl::Status status = op.Reference(call);
  EXPECT_TRUE(status.ok()) << status;
  return call.output;
}

bool PerToken(const InputSpec& spec) {
  return spec.axes.find('L') != std::string::npos;
}

std::vector<Tensor> TokensOf(const Operator& op,
                             const std::vector<Tensor>& inputs, int64_t first,
                             int64_t count) {
  const std::vector<InputSpec> specs = op.Inputs();
  std::vector<Tensor> part;
  for (size_t i = 0; i < inputs.size(); ++i) {
    part.push_back(PerToken(specs[i]) ? Tokens(inputs[i], first, count)
                                      : inputs[i]);
  }
  return part;
}

void ForEachOperator(
    const std::function<void(const Variant&, const Operator&)>& body) {
  ForEachVariant([&](const Variant& variant, const Options& options) {
    if (variant.make_operator == nullptr) return;
    auto op = variant.make_operator(options);
    ASSERT_TRUE(op.ok()) << op.status();
    body(variant, **op);
  });
}

void ForEachCase(const std::function<void(const Variant&, const Operator&,
                                          const Dims&)>& body) {
  ForEachOperator([&](const Variant& variant, const Operator& op) {
    for (int64_t length : kLengths) {
      for (const Dims& dims : SizesToTry(op, length)) {
        SCOPED_TRACE("length " + std::to_string(length) + ", batch " +
                     std::to_string(dims.batch) + ", heads " +
                     std::to_string(dims.heads) + "/" +
                     std::to_string(dims.kv_heads));
        body(variant, op, dims);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

}  // namespace mneme::contract
