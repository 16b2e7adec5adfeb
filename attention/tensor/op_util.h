// SPDX-License-Identifier: Apache-2.0
//
// What the implementations of operations share.

#ifndef MNEME_ATTENTION_TENSOR_OP_UTIL_H_
#define MNEME_ATTENTION_TENSOR_OP_UTIL_H_

#include <initializer_list>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "attention/tensor/tape.h"

namespace mneme::internal {

inline bool AllValid(std::initializer_list<Variable> variables) {
  for (const Variable& v : variables) {
    if (!v.valid()) return false;
  }
  return true;
}

// "Linear: shapes [2, 3] and [4, 5] do not fit: the inner sizes differ".
inline Variable ShapeError(absl::string_view op, Variable a, Variable b,
                           absl::string_view why) {
  return a.tape()->Fail(absl::InvalidArgumentError(
      absl::StrCat(op, ": shapes ", a.shape().ToString(), " and ",
                   b.shape().ToString(), " do not fit: ", why)));
}

// An optional vector argument of n entries; null when absent.
template <typename T>
const T* OptionalData(Variable v) {
  return v.valid() ? v.value().data<T>() : nullptr;
}

// Where to add the gradient of an optional argument; null when not wanted.
template <typename T>
T* OptionalGradient(Variable v) {
  return v.needs_gradient() ? v.gradient().data<T>() : nullptr;
}

}  // namespace mneme::internal

#endif  // MNEME_ATTENTION_TENSOR_OP_UTIL_H_
