// SPDX-License-Identifier: Apache-2.0
//
// The one argument type of every kernel: a non-owning, row-major matrix whose
// rows may lie further apart than they are long. A [batch, length, heads, dim]
// array is, for one (batch, head), such a matrix with stride heads * dim, so
// kernels read projections in place and nothing is ever transposed or copied.

#ifndef MNEME_ATTENTION_KERNELS_MATRIX_H_
#define MNEME_ATTENTION_KERNELS_MATRIX_H_

#include <cstddef>
#include <type_traits>

namespace mneme::kernels {

// Element (r, c) is data[r * stride + c]. The caller guarantees
// stride >= cols, that the memory outlives the view, and that a mutable view
// does not overlap another argument of the same call unless the callee says so.
// No alignment is required.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data, size_t rows, size_t cols, size_t stride)
      : data(data), rows(rows), cols(cols), stride(stride) {}
  MatrixView(T* data, size_t rows, size_t cols)
      : MatrixView(data, rows, cols, cols) {}

  T* row(size_t r) const { return data + r * stride; }
  T& operator()(size_t r, size_t c) const { return data[r * stride + c]; }

  // Rows [first, first + count).
  MatrixView Rows(size_t first, size_t count) const {
    return MatrixView(row(first), count, cols, stride);
  }

  // A mutable view is accepted wherever a read-only one is.
  template <typename U = T,
            typename = std::enable_if_t<!std::is_const<U>::value>>
  operator MatrixView<const U>() const {
    return MatrixView<const U>(data, rows, cols, stride);
  }
};

// Read-only view. As a parameter type of the float and double overloads it
// takes part in overload resolution, not in template deduction, so mutable
// views convert.
template <typename T>
using ConstMatrixView = MatrixView<const T>;

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_MATRIX_H_
