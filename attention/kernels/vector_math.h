// SPDX-License-Identifier: Apache-2.0
//
// Vectorised elementwise mathematics on contiguous arrays, float and double.
// Outputs may be the same array as an input, but not overlap it partly.
//
// Accuracy: float results are within 4 ulp of the correctly rounded value for
// Exp and within 1e-6 relative (absolute near zero) for the functions built on
// it; double within 1e-14. NaN in gives NaN out; Exp(-inf) = 0, overflow gives
// +inf, and results below the smallest normal number are flushed to zero. Sin
// of an infinity is NaN, and near its zeros its accuracy is absolute.

#ifndef MNEME_ATTENTION_KERNELS_VECTOR_MATH_H_
#define MNEME_ATTENTION_KERNELS_VECTOR_MATH_H_

#include <cstddef>

namespace mneme::kernels {

enum class Unary {
  kExp,
  kSigmoid,  // 1 / (1 + e^-x)
  kSilu,     // x sigmoid(x), also called swish
  kGelu,     // tanh form, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  kRelu,
  kTanh,
  kSoftplus,    // log(1 + e^x), stable on both sides
  kLogSigmoid,  // log sigmoid(x) = -softplus(-x)
  kEluPlusOne,  // x + 1 for x > 0, else e^x: the feature map of 2006.16236
  kSquare,
  kSin,  // of any argument; fast up to 3e4 (float) and 1e6 (double) in size
};

// y[i] = f(x[i]).
void Map(Unary f, const float* x, float* y, size_t n);
void Map(Unary f, const double* x, double* y, size_t n);

// dx[i] += dy[i] f'(x[i]). At a kink the derivative from the left is taken
// (Relu'(0) = 0).
void MapBackward(Unary f, const float* x, const float* dy, float* dx, size_t n);
void MapBackward(Unary f, const double* x, const double* dy, double* dx,
                 size_t n);

// y[i] += a x[i].
void Axpy(float a, const float* x, float* y, size_t n);
void Axpy(double a, const double* x, double* y, size_t n);

// z[i] = x[i] y[i]; MultiplyAdd: z[i] += x[i] y[i]; Add: z[i] = x[i] + y[i].
void Multiply(const float* x, const float* y, float* z, size_t n);
void Multiply(const double* x, const double* y, double* z, size_t n);
void MultiplyAdd(const float* x, const float* y, float* z, size_t n);
void MultiplyAdd(const double* x, const double* y, double* z, size_t n);
void Add(const float* x, const float* y, float* z, size_t n);
void Add(const double* x, const double* y, double* z, size_t n);

// Sum of x[i] y[i], in a fixed order for a given n and SIMD target.
float Dot(const float* x, const float* y, size_t n);
double Dot(const double* x, const double* y, size_t n);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_VECTOR_MATH_H_
