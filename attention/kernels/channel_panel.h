// SPDX-License-Identifier: Apache-2.0
//
// Panels of matrices, a few neighbouring channels, and their copies in memory
// of their own. Rows of a wide matrix are slow to read, as they lie too far
// apart for the CPU to guess them, and they compete for cache sets: so they are
// asked for ahead, and copied for what reads them more than once.

#ifndef MNEME_ATTENTION_KERNELS_CHANNEL_PANEL_H_
#define MNEME_ATTENTION_KERNELS_CHANNEL_PANEL_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "attention/kernels/matrix.h"
#include "attention/kernels/vector_math.h"
#include "hwy/cache_control.h"

namespace mneme::kernels {

// Channels of a panel, two cache lines.
template <typename T>
constexpr size_t kPanel = 128 / sizeof(T);

template <typename E>
MatrixView<E> Columns(MatrixView<E> x, size_t first, size_t count) {
  return {x.data + first, x.rows, count, x.stride};
}

// A matrix in memory of its own, which only ever grows.
template <typename T>
class OwnMatrix {
 public:
  MatrixView<T> Resize(size_t rows, size_t cols) {
    if (values_.size() < rows * cols) {
      values_ = std::vector<T>();  // not two of them at a time
      values_.resize(rows * cols);
    }
    return {values_.data(), rows, cols};
  }

 private:
  std::vector<T> values_;
};

// Asks for a row of a panel, if there is one.
template <typename T>
void PrefetchRow(const MatrixView<T>& x, size_t row) {
  if (row >= x.rows) return;
  hwy::Prefetch(x.row(row));
  hwy::Prefetch(x.row(row) + x.cols - 1);
}
constexpr size_t kRowsAhead = 32;

template <typename T>
void CopyRow(const T* from, size_t columns, T* to) {
  if (columns == kPanel<T>) {  // no call
    std::memcpy(to, from, kPanel<T> * sizeof(T));
  } else {
    std::copy_n(from, columns, to);
  }
}

// Rows [first, last) of one to the same rows of another, as wide.
template <typename T>
void Copy(MatrixView<const T> from, size_t first, size_t last,
          MatrixView<T> to) {
  for (size_t r = first; r < last; ++r) {
    PrefetchRow(from, r + kRowsAhead);
    CopyRow(from.row(r), to.cols, to.row(r));
  }
}

template <typename T>
void Clear(MatrixView<T> x) {
  if (x.cols == x.stride) {
    std::fill_n(x.data, x.rows * x.cols, T{0});
  } else {
    for (size_t r = 0; r < x.rows; ++r) std::fill_n(x.row(r), x.cols, T{0});
  }
}

// to's rows are from's, last row first.
template <typename T>
void Reverse(MatrixView<const T> from, MatrixView<T> to) {
  for (size_t r = from.rows; r-- > 0;) {
    const size_t at = from.rows - 1 - r;
    if (r >= kRowsAhead) PrefetchRow(from, r - kRowsAhead);
    PrefetchRow(to, at + kRowsAhead);
    CopyRow(from.row(r), to.cols, to.row(at));
  }
}

// y += x, row by row.
template <typename T>
void AddRows(MatrixView<const T> x, MatrixView<T> y) {
  for (size_t r = 0; r < x.rows; ++r) {
    PrefetchRow(y, r + kRowsAhead);
    Add(y.row(r), x.row(r), y.row(r), x.cols);
  }
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_CHANNEL_PANEL_H_
