// SPDX-License-Identifier: Apache-2.0
//
// What the backward of the causal Linformer walks through, block by block.

#ifndef MNEME_ATTENTION_LINFORMER_LINFORMER_BLOCKS_H_
#define MNEME_ATTENTION_LINFORMER_LINFORMER_BLOCKS_H_

#include <algorithm>
#include <cstddef>

#include "attention/kernels/gemm.h"
#include "attention/kernels/vector_math.h"
#include "attention/parts/owned_matrix.h"
#include "attention/parts/sequence_projection.h"

namespace mneme {

// Keys or values x [length, dim] of one head in a backward. Blocks are entered
// and left in order; the rows of a block stand behind the slots of those before
// it, and when it is left its own slots take their place.
template <typename T>
class SeenByBlock {
 public:
  // Gradients are added to d_pool and d_x.
  SeenByBlock(kernels::MatrixView<const T> pool, kernels::MatrixView<const T> x,
              kernels::MatrixView<T> d_pool, kernels::MatrixView<T> d_x)
      : pool_(pool),
        x_(x),
        d_pool_(d_pool),
        d_x_(d_x),
        seen_(Capacity(), x.cols),
        d_seen_(Capacity(), x.cols) {}

  void Enter(size_t c) {
    start_ = c * pool_.cols;
    before_ = c * pool_.rows;
    rows_ = std::min(pool_.cols, x_.rows - start_);
    for (size_t r = 0; r < rows_; ++r) {
      std::copy_n(x_.row(start_ + r), x_.cols, seen_.view().row(before_ + r));
    }
  }
  kernels::MatrixView<T> seen() {
    return seen_.view().Rows(0, before_ + rows_);
  }
  // To be added to: the slots' part is kept from block to block.
  kernels::MatrixView<T> d_seen() {
    return d_seen_.view().Rows(0, before_ + rows_);
  }

  void Leave() {
    for (size_t r = 0; r < rows_; ++r) {
      T* own = d_seen_.view().row(before_ + r);
      kernels::Axpy(T{1}, own, d_x_.row(start_ + r), x_.cols);
      std::fill_n(own, x_.cols, T{0});
    }
    if (rows_ < pool_.cols) return;
    ProjectTokens<T>(kernels::Transpose::kNo, pool_, x_.Rows(start_, rows_),
                     seen_.view().Rows(before_, pool_.rows));
  }

  // After the last block: what the slots' gradients are to pool and x.
  void Finish() {
    for (size_t c = 0; (c + 1) * pool_.cols < x_.rows; ++c) {
      ProjectTokensBackward<T>(kernels::Transpose::kNo, pool_,
                               x_.Rows(c * pool_.cols, pool_.cols),
                               d_seen_.view().Rows(c * pool_.rows, pool_.rows),
                               d_pool_, d_x_.Rows(c * pool_.cols, pool_.cols));
    }
  }

 private:
  // Slots of all complete blocks, and one block more.
  size_t Capacity() const {
    return (x_.rows / pool_.cols + 1) * pool_.rows + pool_.cols;
  }

  kernels::MatrixView<const T> pool_, x_;
  kernels::MatrixView<T> d_pool_, d_x_;
  OwnedMatrix<T> seen_, d_seen_;
  size_t start_ = 0, before_ = 0, rows_ = 0;  // of the block that was entered
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_LINFORMER_LINFORMER_BLOCKS_H_
