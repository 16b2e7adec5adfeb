// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/tape.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mneme {

GradientBuffer::GradientBuffer(const ParameterSet& parameters)
    : flat_(parameters.dtype(), {parameters.elements()}) {}

Tensor GradientBuffer::Of(const Parameter& parameter) const {
  return flat_.Slice(parameter.offset, parameter.value.shape());
}

GradientSlot Variable::gradient_slot() const {
  if (node_->alias_of != nullptr) {
    GradientSlot slot = Variable(node_->alias_of).gradient_slot();
    slot.tensor = slot.tensor.Reshaped(shape());
    return slot;
  }
  const bool fresh = node_->gradient.empty();
  if (fresh) node_->gradient = node_->tape->New(shape());
  return {node_->gradient, fresh};
}

Tensor Variable::gradient() const {
  GradientSlot slot = gradient_slot();
  if (slot.fresh) slot.tensor.FillZero();
  return slot.tensor;
}

Tape::Tape(Arena* arena, DType dtype, GradientBuffer* gradients)
    : arena_(arena), dtype_(dtype), gradients_(gradients) {}

Variable Tape::Input(Tensor value, bool needs_gradient) {
  nodes_.emplace_back();
  Variable::Node& node = nodes_.back();
  node.tape = this;
  node.value = std::move(value);
  node.needs_gradient = needs_gradient;
  return Variable(&node);
}

Variable Tape::Use(const Parameter& parameter) {
  Variable leaf = Input(parameter.value, gradients_ != nullptr);
  if (gradients_ != nullptr) leaf.node_->gradient = gradients_->Of(parameter);
  return leaf;
}

Tensor Tape::New(Shape shape) {
  return Tensor(arena_, dtype_, std::move(shape));
}

Variable Tape::Record(Tensor result, std::initializer_list<Variable> inputs,
                      BackwardFn backward) {
  return Record(std::move(result),
                absl::MakeConstSpan(inputs.begin(), inputs.size()),
                std::move(backward));
}

Variable Tape::Record(Tensor result, absl::Span<const Variable> inputs,
                      BackwardFn backward) {
  bool needs_gradient = false;
  for (const Variable& input : inputs) {
    needs_gradient = needs_gradient || input.needs_gradient();
  }
  Variable variable = Input(std::move(result), needs_gradient);
  if (needs_gradient) variable.node_->backward = std::move(backward);
  return variable;
}

Variable Tape::Alias(Variable x, Shape shape) {
  if (!x.valid()) return x;
  if (shape.elements() != x.value().elements()) {
    return Fail(absl::InvalidArgumentError(
        absl::StrCat("cannot view a tensor of shape ", x.shape().ToString(),
                     " as ", shape.ToString())));
  }
  Variable alias =
      Input(x.value().Reshaped(std::move(shape)), x.needs_gradient());
  alias.node_->alias_of = x.node_;
  return alias;
}

Variable Tape::Fail(absl::Status status) {
  status_.Update(std::move(status));
  return Variable();
}

absl::Status Tape::Backward(Variable loss) {
  if (!status_.ok()) return status_;
  if (!loss.valid() || loss.value().elements() != 1) {
    return absl::InvalidArgumentError(
        "only a scalar has a gradient without a seed");
  }
  Tensor one(dtype_, loss.shape());
  DispatchDType(dtype_, [&](auto zero) { *one.data<decltype(zero)>() = 1; });
  return Backward(loss, one);
}

absl::Status Tape::Backward(Variable result, const Tensor& seed) {
  if (!status_.ok()) return status_;
  if (!result.valid()) {
    return absl::InvalidArgumentError("backward from an invalid variable");
  }
  if (seed.shape() != result.shape() || seed.dtype() != dtype_) {
    return absl::InvalidArgumentError(
        absl::StrCat("gradient seed has shape ", seed.shape().ToString(),
                     ", the result ", result.shape().ToString()));
  }
  if (!result.needs_gradient()) return absl::OkStatus();
  Tensor start = result.gradient_slot().tensor;
  std::memcpy(start.raw(), seed.raw(), seed.bytes());
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    if (node->backward && !node->gradient.empty()) {
      node->backward(node->gradient);
    }
  }
  return status_;
}

void Tape::Reset() {
  nodes_.clear();
  arena_->Reset();
  status_ = absl::OkStatus();
}

}  // namespace mneme
