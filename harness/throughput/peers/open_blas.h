// SPDX-License-Identifier: Apache-2.0
//
// OpenBLAS's matrix products on matrix views. Each call runs on its own thread,
// and several may run at once.

#ifndef MNEME_HARNESS_THROUGHPUT_PEERS_OPEN_BLAS_H_
#define MNEME_HARNESS_THROUGHPUT_PEERS_OPEN_BLAS_H_

#include "absl/status/status.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"

namespace mneme::peers {

// To be called before anything below. Unimplemented if the environment holds
// OpenBLAS to the kernels of another CPU, with which nothing should be
// compared: what was made for a CPU without AVX-512 has half the speed on one
// with it.
absl::Status CheckOpenBlas();

// The CPU whose kernels it runs: "SkylakeX".
const char* OpenBlasCore();

// C = alpha op(A) op(B) + beta C; otherwise as kernels::Gemm has it.
void OpenBlasMultiply(kernels::Transpose transpose_a,
                      kernels::Transpose transpose_b,
                      kernels::MatrixView<const float> a,
                      kernels::MatrixView<const float> b,
                      kernels::MatrixView<float> c, float alpha = 1,
                      float beta = 0);

}  // namespace mneme::peers

#endif  // MNEME_HARNESS_THROUGHPUT_PEERS_OPEN_BLAS_H_
