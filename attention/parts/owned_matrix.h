// SPDX-License-Identifier: Apache-2.0
//
// A matrix with memory of its own, for what operators compute on the way.

#ifndef MNEME_ATTENTION_PARTS_OWNED_MATRIX_H_
#define MNEME_ATTENTION_PARTS_OWNED_MATRIX_H_

#include <cstddef>
#include <vector>

#include "attention/kernels/matrix.h"

namespace mneme {

template <typename T>
class OwnedMatrix {
 public:
  // Zeros.
  OwnedMatrix(size_t rows, size_t cols)
      : memory_(rows * cols), view_(memory_.data(), rows, cols) {}
  // Moving keeps the memory where it is, and with it all views.
  OwnedMatrix(OwnedMatrix&&) = default;
  OwnedMatrix& operator=(OwnedMatrix&&) = default;

  // Valid as long as the matrix, or what it was moved to, lives.
  kernels::MatrixView<T> view() const { return view_; }

 private:
  std::vector<T> memory_;
  kernels::MatrixView<T> view_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_OWNED_MATRIX_H_
