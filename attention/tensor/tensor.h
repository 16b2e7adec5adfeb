// SPDX-License-Identifier: Apache-2.0
//
// A dense, contiguous, row-major array with a run-time element type. Copying a
// Tensor copies the handle, not the elements; Clone copies elements.

#ifndef MNEME_ATTENTION_TENSOR_TENSOR_H_
#define MNEME_ATTENTION_TENSOR_TENSOR_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/kernels/matrix.h"
#include "attention/tensor/arena.h"
#include "attention/tensor/shape.h"

namespace mneme {

class Tensor {
 public:
  // The empty tensor: no data, shape [0].
  Tensor() : shape_({0}) {}

  // Owning, zero-filled. Throws std::bad_alloc when memory is short.
  Tensor(DType dtype, Shape shape);
  // Lives in the arena until its Reset, uninitialised; a null arena gives an
  // owning tensor.
  Tensor(Arena* arena, DType dtype, Shape shape);

  template <typename T>
  static Tensor FromValues(Shape shape, const std::vector<T>& values);

  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_.dim(i); }
  int64_t elements() const { return shape_.elements(); }
  size_t bytes() const { return elements() * SizeOf(dtype_); }

  // T must be the element type.
  template <typename T>
  T* data() const {
    assert(kDTypeOf<T> == dtype_);
    return static_cast<T*>(data_);
  }
  void* raw() const { return data_; }

  // The tensor as a matrix: innermost axis as columns, all others as rows.
  template <typename T>
  kernels::MatrixView<T> Matrix() const {
    return {data<T>(), static_cast<size_t>(shape_.rows()),
            static_cast<size_t>(shape_.dim(-1))};
  }

  // For a [batch, length, heads, dim] tensor: the [length, dim] sequence of one
  // batch entry and head, in place.
  template <typename T>
  kernels::MatrixView<T> Sequence(int64_t b, int64_t h) const {
    const size_t length = dim(1), heads = dim(2), width = dim(3);
    return {data<T>() + (b * length * heads + h) * width, length, width,
            heads * width};
  }

  // Same elements under another shape with as many elements (checked in debug
  // builds); shares memory.
  Tensor Reshaped(Shape shape) const;
  // shape.elements() consecutive elements from `first` on, sharing memory.
  Tensor Slice(int64_t first, Shape shape) const;
  // Deep copy that owns its memory.
  Tensor Clone() const;
  // Deep copy with elements converted.
  Tensor Cast(DType dtype) const;
  void FillZero();
  // All elements as doubles, for tests and reports.
  std::vector<double> ToDoubles() const;

 private:
  std::shared_ptr<void> owner_;  // null for arena memory
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  Shape shape_;
};

template <typename T>
Tensor Tensor::FromValues(Shape shape, const std::vector<T>& values) {
  Tensor tensor(kDTypeOf<T>, std::move(shape));
  assert(tensor.elements() == static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) tensor.data<T>()[i] = values[i];
  return tensor;
}

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_TENSOR_H_
