// SPDX-License-Identifier: Apache-2.0
//
// Row normalisation. Layer norm (arXiv 1607.06450), for each row x of n
// entries: y = (x - mean) * r * gain + bias, r = (mean((x - mean)^2) +
// eps)^-1/2. RMS norm (1910.07467) is the same with mean = 0 and no bias. The
// backward recomputes x-hat from x with the saved mean and r instead of storing
// it.

#ifndef MNEME_ATTENTION_KERNELS_NORM_H_
#define MNEME_ATTENTION_KERNELS_NORM_H_

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

enum class NormKind { kLayer, kRms };

// x, y [rows, n], y may be x; gain and bias [n], or null for 1 and 0. mean and
// rstd [rows] are written for the backward (mean is not touched by kRms).
void NormForward(NormKind kind, MatrixView<const float> x, const float* gain,
                 const float* bias, float eps, MatrixView<float> y, float* mean,
                 float* rstd);
void NormForward(NormKind kind, MatrixView<const double> x, const double* gain,
                 const double* bias, double eps, MatrixView<double> y,
                 double* mean, double* rstd);

// Adds to d_x [rows, n], d_gain [n] and d_bias [n] (null: unwanted).
void NormBackward(NormKind kind, MatrixView<const float> x, const float* gain,
                  const float* mean, const float* rstd,
                  MatrixView<const float> d_y, MatrixView<float> d_x,
                  float* d_gain, float* d_bias);
void NormBackward(NormKind kind, MatrixView<const double> x, const double* gain,
                  const double* mean, const double* rstd,
                  MatrixView<const double> d_y, MatrixView<double> d_x,
                  double* d_gain, double* d_bias);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_NORM_H_
