// SPDX-License-Identifier: Apache-2.0
//
// Reverse-mode automatic differentiation. Operations on Variables compute their
// value at once and record on the Tape how to push a gradient from the result
// back to the inputs; Backward replays the records in reverse.
//
//   Tape tape(&arena, DType::kFloat32, &gradients);
//   Variable x = tape.Input(batch);
//   Variable y = Linear(x, tape.Use(*weight));       // ops.h
//   Variable loss = CrossEntropy(y, labels, weight);
//   absl::Status status = tape.Backward(loss);       // fills `gradients`
//
// Errors are sticky: the first wrong shape makes the tape fail, every later
// operation returns an invalid Variable without computing, and Backward (or
// status()) reports that first error. Model code needs no error handling.
//
// Not thread-safe: data-parallel training uses one tape per thread.

#ifndef MNEME_ATTENTION_TENSOR_TAPE_H_
#define MNEME_ATTENTION_TENSOR_TAPE_H_

#include <deque>
#include <functional>
#include <initializer_list>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "attention/tensor/arena.h"
#include "attention/tensor/parameter.h"
#include "attention/tensor/tensor.h"

namespace mneme {

class Tape;

// Where a backward function writes. A fresh gradient holds no value yet: a
// writer that can overwrite (beta = 0) saves the zero fill and the addition.
struct GradientSlot {
  Tensor tensor;
  bool fresh = false;
};

// A handle to a value on a tape, valid until the tape is reset. Default
// constructed, or the result of a failed operation, it is invalid.
class Variable {
 public:
  Variable() = default;

  bool valid() const { return node_ != nullptr; }
  Tape* tape() const;
  const Tensor& value() const;
  const Shape& shape() const { return value().shape(); }
  DType dtype() const { return value().dtype(); }

  // For backward functions. Whether anybody wants this gradient:
  bool needs_gradient() const;
  // The gradient to add to, zero-filled if it was fresh.
  Tensor gradient() const;
  // The gradient to add to, or to overwrite entirely when fresh.
  GradientSlot gradient_slot() const;

 private:
  friend class Tape;
  struct Node;
  explicit Variable(Node* node) : node_(node) {}
  Node* node_ = nullptr;
};

// The gradients of all parameters of a ParameterSet, one contiguous array of
// parameters.elements() values.
class GradientBuffer {
 public:
  explicit GradientBuffer(const ParameterSet& parameters);
  // The part that belongs to one parameter, in its shape.
  Tensor Of(const Parameter& parameter) const;
  const Tensor& flat() const { return flat_; }
  void FillZero() { flat_.FillZero(); }

 private:
  Tensor flat_;
};

class Tape {
 public:
  // Pushes d(loss)/d(result) on to the inputs' gradients.
  using BackwardFn = std::function<void(const Tensor& d_result)>;

  // Values and gradients live in the arena. With gradients = nullptr nothing is
  // recorded (inference), except for Inputs marked with needs_gradient.
  Tape(Arena* arena, DType dtype, GradientBuffer* gradients);
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  DType dtype() const { return dtype_; }
  Arena* arena() const { return arena_; }
  const absl::Status& status() const { return status_; }

  // A leaf. Its gradient can be read with gradient() after Backward when
  // needs_gradient was set.
  Variable Input(Tensor value, bool needs_gradient = false);

  // A parameter as a leaf; its gradient is added into the GradientBuffer.
  Variable Use(const Parameter& parameter);

  // An uninitialised tensor in the arena, of the tape's dtype.
  Tensor New(Shape shape);

  // A result computed from inputs. Invalid inputs stand for absent optional
  // arguments. backward runs at most once, and only if some gradient reached
  // the result; it must add to inputs' gradients where needs_gradient().
  Variable Record(Tensor result, std::initializer_list<Variable> inputs,
                  BackwardFn backward);
  Variable Record(Tensor result, absl::Span<const Variable> inputs,
                  BackwardFn backward);

  // The same elements under another shape; shares value and gradient.
  Variable Alias(Variable x, Shape shape);

  // Remembers the first error; returns an invalid Variable.
  Variable Fail(absl::Status status);

  // Gradients of a scalar, or of sum(result * seed) for any result. Returns
  // status() without differentiating when an operation had failed.
  absl::Status Backward(Variable loss);
  absl::Status Backward(Variable result, const Tensor& seed);

  // Drops all values and records, rewinds the arena and clears the status.
  void Reset();

 private:
  Arena* arena_;
  DType dtype_;
  GradientBuffer* gradients_;
  std::deque<Variable::Node> nodes_;  // stable addresses
  absl::Status status_;
};

struct Variable::Node {
  Tape* tape = nullptr;
  Tensor value;
  Tensor gradient;           // empty until somebody writes to it
  Node* alias_of = nullptr;  // shares that node's gradient
  bool needs_gradient = false;
  Tape::BackwardFn backward;
};

inline Tape* Variable::tape() const { return node_->tape; }
inline const Tensor& Variable::value() const { return node_->value; }
inline bool Variable::needs_gradient() const {
  return node_ != nullptr && node_->needs_gradient;
}

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_TAPE_H_
