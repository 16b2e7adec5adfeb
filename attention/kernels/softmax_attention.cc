// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/softmax_attention.h"

#include "hwy/base.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/softmax_attention.cc"
#include "hwy/foreach_target.h"
// Must come after foreach_target.h.
#include "attention/kernels/softmax_backward-inl.h"
#include "attention/kernels/softmax_forward-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {

// HWY_EXPORT wants functions, not templates.
void ForwardF32(MatrixView<const float> q, MatrixView<const float> k,
                MatrixView<const float> v, float scale,
                const AttentionMask& mask, MatrixView<float> o, float* lse) {
  Forward(q, k, v, scale, mask, o, lse);
}
void ForwardF64(MatrixView<const double> q, MatrixView<const double> k,
                MatrixView<const double> v, double scale,
                const AttentionMask& mask, MatrixView<double> o, double* lse) {
  Forward(q, k, v, scale, mask, o, lse);
}
void BiasedF32(MatrixView<const float> q, MatrixView<const float> k,
               MatrixView<const float> v, float scale,
               MatrixView<const float> bias, MatrixView<float> o) {
  ForwardBiased(q, k, v, scale, bias, o);
}
void BiasedF64(MatrixView<const double> q, MatrixView<const double> k,
               MatrixView<const double> v, double scale,
               MatrixView<const double> bias, MatrixView<double> o) {
  ForwardBiased(q, k, v, scale, bias, o);
}
void BackwardF32(const SoftmaxGradients<float>& a) { Backward(a); }
void BackwardF64(const SoftmaxGradients<double>& a) { Backward(a); }

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(ForwardF32);
HWY_EXPORT(ForwardF64);
HWY_EXPORT(BiasedF32);
HWY_EXPORT(BiasedF64);
HWY_EXPORT(BackwardF32);
HWY_EXPORT(BackwardF64);

void SoftmaxAttentionForward(MatrixView<const float> q,
                             MatrixView<const float> k,
                             MatrixView<const float> v, float scale,
                             const AttentionMask& mask, MatrixView<float> o,
                             float* lse) {
  HWY_DYNAMIC_DISPATCH(ForwardF32)(q, k, v, scale, mask, o, lse);
}

void SoftmaxAttentionForward(MatrixView<const double> q,
                             MatrixView<const double> k,
                             MatrixView<const double> v, double scale,
                             const AttentionMask& mask, MatrixView<double> o,
                             double* lse) {
  HWY_DYNAMIC_DISPATCH(ForwardF64)(q, k, v, scale, mask, o, lse);
}

void SoftmaxAttentionBiased(MatrixView<const float> q,
                            MatrixView<const float> k,
                            MatrixView<const float> v, float scale,
                            MatrixView<const float> bias, MatrixView<float> o) {
  HWY_DYNAMIC_DISPATCH(BiasedF32)(q, k, v, scale, bias, o);
}

void SoftmaxAttentionBiased(MatrixView<const double> q,
                            MatrixView<const double> k,
                            MatrixView<const double> v, double scale,
                            MatrixView<const double> bias,
                            MatrixView<double> o) {
  HWY_DYNAMIC_DISPATCH(BiasedF64)(q, k, v, scale, bias, o);
}

void SoftmaxAttentionBackward(MatrixView<const float> q,
                              MatrixView<const float> k,
                              MatrixView<const float> v,
                              MatrixView<const float> o, const float* lse,
                              MatrixView<const float> d_o, float scale,
                              const AttentionMask& mask, MatrixView<float> d_q,
                              MatrixView<float> d_k, MatrixView<float> d_v) {
  HWY_DYNAMIC_DISPATCH(BackwardF32)
  ({q, k, v, o, lse, d_o, scale, mask, d_q, d_k, d_v});
}

void SoftmaxAttentionBackward(MatrixView<const double> q,
                              MatrixView<const double> k,
                              MatrixView<const double> v,
                              MatrixView<const double> o, const double* lse,
                              MatrixView<const double> d_o, double scale,
                              const AttentionMask& mask, MatrixView<double> d_q,
                              MatrixView<double> d_k, MatrixView<double> d_v) {
  HWY_DYNAMIC_DISPATCH(BackwardF64)
  ({q, k, v, o, lse, d_o, scale, mask, d_q, d_k, d_v});
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
