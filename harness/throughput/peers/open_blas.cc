// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/peers/open_blas.h"

#include <cstddef>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "cblas.h"

namespace mneme::peers {
namespace {

using kernels::MatrixView;
using kernels::Transpose;

CBLAS_TRANSPOSE Cblas(Transpose transpose) {
  return transpose == Transpose::kYes ? CblasTrans : CblasNoTrans;
}

}  // namespace

absl::Status CheckOpenBlas() {
  if (const char* core = std::getenv("OPENBLAS_CORETYPE"); core != nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        "OPENBLAS_CORETYPE=", core,
        " in the environment keeps OpenBLAS from choosing its kernels by the "
        "CPU; unset it"));
  }
  openblas_set_num_threads(1);
  return absl::OkStatus();
}

const char* OpenBlasCore() { return openblas_get_corename(); }

void OpenBlasMultiply(Transpose transpose_a, Transpose transpose_b,
                      MatrixView<const float> a, MatrixView<const float> b,
                      MatrixView<float> c, float alpha, float beta) {
  if (c.rows == 1 && transpose_a == Transpose::kNo) {
    // A row times B is B^T times a column, in which OpenBLAS is faster.
    cblas_sgemv(CblasRowMajor,
                transpose_b == Transpose::kYes ? CblasNoTrans : CblasTrans,
                b.rows, b.cols, alpha, b.data, b.stride, a.data, 1, beta,
                c.data, 1);
    return;
  }
  const size_t k = transpose_a == Transpose::kYes ? a.rows : a.cols;
  cblas_sgemm(CblasRowMajor, Cblas(transpose_a), Cblas(transpose_b), c.rows,
              c.cols, k, alpha, a.data, a.stride, b.data, b.stride, beta,
              c.data, c.stride);
}

}  // namespace mneme::peers
