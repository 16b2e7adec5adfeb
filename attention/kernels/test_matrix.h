// SPDX-License-Identifier: Apache-2.0
//
// Matrix arguments for kernel tests, laid out as unkindly as the interface
// allows.

#ifndef MNEME_ATTENTION_KERNELS_TEST_MATRIX_H_
#define MNEME_ATTENTION_KERNELS_TEST_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// A rows x cols matrix whose first element is unaligned, whose rows are `gap`
// elements further apart than they are long, and which ends at its last
// element, where AddressSanitizer sees an overrun. Writes into the gaps are
// noticed by GapsIntact.
template <typename T>
class TestMatrix {
 public:
  // All elements are `value`.
  TestMatrix(size_t rows, size_t cols, size_t gap, T value = 0)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        storage_(rows == 0 ? 1 : 1 + (rows - 1) * stride_ + cols, kGapValue) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < cols; ++c) view()(r, c) = value;
    }
  }

  // Normally distributed elements.
  static TestMatrix Random(size_t rows, size_t cols, size_t gap, uint64_t seed,
                           double deviation = 1.0) {
    TestMatrix result(rows, cols, gap);
    const std::vector<T> values = RandomValues<T>(rows * cols, seed, deviation);
    for (size_t i = 0; i < values.size(); ++i) {
      result.view()(i / cols, i % cols) = values[i];
    }
    return result;
  }

  MatrixView<T> view() {
    return MatrixView<T>(storage_.data() + 1, rows_, cols_, stride_);
  }
  MatrixView<const T> view() const {
    return MatrixView<const T>(storage_.data() + 1, rows_, cols_, stride_);
  }

  // The elements in row-major order without gaps.
  template <typename U = T>
  std::vector<U> Values() const {
    std::vector<U> values;
    for (size_t r = 0; r < rows_; ++r) {
      const T* row = view().row(r);
      values.insert(values.end(), row, row + cols_);
    }
    return values;
  }

  bool GapsIntact() const {
    for (size_t i = 0; i < storage_.size(); ++i) {
      const bool is_element = i > 0 && (i - 1) % stride_ < cols_;
      if (!is_element && storage_[i] != kGapValue) return false;
    }
    return true;
  }

 private:
  static constexpr T kGapValue = 12345;

  size_t rows_, cols_, stride_;
  std::vector<T> storage_;
};

// Central differences of a scalar function of *x, with the step that the
// project's gradient checks use.
template <typename F>
std::vector<double> CentralDifferences(std::vector<double>* x, const F& f) {
  constexpr double kStep = 1e-6;
  std::vector<double> gradient;
  for (double& value : *x) {
    const double original = value;
    value = original + kStep;
    const double above = f();
    value = original - kStep;
    const double below = f();
    value = original;
    gradient.push_back((above - below) / (2 * kStep));
  }
  return gradient;
}

// Row by row.
template <typename F>
std::vector<double> CentralDifferences(TestMatrix<double>* x, const F& f) {
  const MatrixView<double> view = x->view();
  std::vector<double> gradient;
  for (size_t i = 0; i < view.rows * view.cols; ++i) {
    std::vector<double> entry = {view(i / view.cols, i % view.cols)};
    gradient.push_back(CentralDifferences(&entry, [&] {
      view(i / view.cols, i % view.cols) = entry[0];
      return f();
    })[0]);
    view(i / view.cols, i % view.cols) = entry[0];
  }
  return gradient;
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_TEST_MATRIX_H_
