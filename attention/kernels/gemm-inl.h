// SPDX-License-Identifier: Apache-2.0
//
// The matrix product of gemm.h for kernels that are already inside a SIMD
// target: calling it costs one direct call, no second dispatch. Same semantics
// as Gemm. It is compiled once per target, in gemm.cc, and only declared here,
// so including it costs neither compile time nor code.

#if defined(MNEME_ATTENTION_KERNELS_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_GEMM_INL_H_
#undef MNEME_ATTENTION_KERNELS_GEMM_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_GEMM_INL_H_
#endif

#include "attention/kernels/gemm.h"
#include "attention/kernels/matrix.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {

// T is float or double.
template <typename T>
void GemmTiled(Transpose transpose_a, Transpose transpose_b,
               MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> c,
               const GemmEpilogue<T>& epilogue);

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_GEMM_INL_H_
