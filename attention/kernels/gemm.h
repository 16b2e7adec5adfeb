// SPDX-License-Identifier: Apache-2.0
//
// General matrix product with a fused epilogue:
//
//   C = act(alpha * op(A) op(B) + beta * C + bias)
//
// op(A) is m x k, op(B) is k x n, C is m x n; op transposes when asked to.
// bias has n entries and is added to every row. Dimensions of size 0 are
// allowed: k = 0 leaves act(beta * C + bias). beta = 0 overwrites C without
// reading it, so C may hold NaN.
//
// Each element of C is computed by the same operations in the same order
// whatever the shape and layout around it: it depends, to the bit, on its row
// of op(A), its column of op(B), its own old value and the SIMD target only. So
// equal inputs give equal outputs, and multiplying one row at a time (decode)
// gives what multiplying many rows (prefill) gives.
//
// Single-threaded and safe to call from several threads at once; parallelism is
// the caller's, over rows of C (see parallel.h). Needs 140 KiB of stack and no
// heap.

#ifndef MNEME_ATTENTION_KERNELS_GEMM_H_
#define MNEME_ATTENTION_KERNELS_GEMM_H_

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

enum class Transpose : bool { kNo = false, kYes = true };

// Activations that a product may apply to its result before storing it.
enum class Activation { kIdentity, kRelu, kSilu, kGelu, kSigmoid };

template <typename T>
struct GemmEpilogue {
  T alpha = 1;
  T beta = 0;
  const T* bias = nullptr;  // n entries, or none
  Activation activation = Activation::kIdentity;
};

// Shapes as stored: a is m x k (k x m when transposed), b is k x n (n x k when
// transposed), c is m x n and overlaps neither. Shapes are the caller's
// promise; they are checked in debug builds.
void Gemm(Transpose transpose_a, Transpose transpose_b,
          MatrixView<const float> a, MatrixView<const float> b,
          MatrixView<float> c, const GemmEpilogue<float>& epilogue = {});
void Gemm(Transpose transpose_a, Transpose transpose_b,
          MatrixView<const double> a, MatrixView<const double> b,
          MatrixView<double> c, const GemmEpilogue<double>& epilogue = {});

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_GEMM_H_
