// SPDX-License-Identifier: Apache-2.0
//
// Shapes and element types of tensors.

#ifndef MNEME_ATTENTION_TENSOR_SHAPE_H_
#define MNEME_ATTENTION_TENSOR_SHAPE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"

namespace mneme {

// float32 is what models train in; float64 exists so that the very same code
// can be differentiated numerically.
enum class DType : uint8_t { kFloat32, kFloat64 };

constexpr size_t SizeOf(DType dtype) {
  return dtype == DType::kFloat32 ? sizeof(float) : sizeof(double);
}

template <typename T>
inline constexpr DType kDTypeOf = sizeof(T) == sizeof(float) ? DType::kFloat32
                                                             : DType::kFloat64;

// Calls f(float{}) or f(double{}): the bridge from a run-time dtype to the
// kernels' overloads.
template <typename F>
decltype(auto) DispatchDType(DType dtype, F&& f) {
  return dtype == DType::kFloat32 ? std::forward<F>(f)(float{})
                                  : std::forward<F>(f)(double{});
}

// Sizes of the axes, outermost first; rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(absl::Span<const int64_t> dims)
      : dims_(dims.begin(), dims.end()) {}

  int rank() const { return static_cast<int>(dims_.size()); }
  // Axis i; negative counts from the end: dim(-1) is the innermost.
  int64_t dim(int i) const { return dims_[i < 0 ? i + rank() : i]; }
  absl::Span<const int64_t> dims() const { return dims_; }

  int64_t elements() const {
    int64_t n = 1;
    for (int64_t d : dims_) n *= d;
    return n;
  }
  // Product of all axes but the innermost: the rows of the tensor as a matrix.
  int64_t rows() const { return rank() == 0 ? 1 : elements_before_last(); }

  // The same shape with the innermost axis replaced. Rank must be >= 1.
  Shape WithLast(int64_t size) const {
    Shape shape = *this;
    shape.dims_.back() = size;
    return shape;
  }

  std::string ToString() const;  // "[2, 64, 32]"

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.dims_ == b.dims_;
  }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

 private:
  int64_t elements_before_last() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank(); ++i) n *= dims_[i];
    return n;
  }

  absl::InlinedVector<int64_t, 4> dims_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_SHAPE_H_
