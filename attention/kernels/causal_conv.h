// SPDX-License-Identifier: Apache-2.0
//
// Causal depthwise convolution along a sequence, each channel by itself:
//
//   y[t, c] = bias[c] + sum_{j < width} w[j, c] x[t - j, c],
//
// so w[0] multiplies the current token. Rows before the start come from
// history (oldest first, width - 1 rows) or are zero. Used as the short
// convolution on queries, keys and values (width 3 or 4).

#ifndef MNEME_ATTENTION_KERNELS_CAUSAL_CONV_H_
#define MNEME_ATTENTION_KERNELS_CAUSAL_CONV_H_

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// x, y [length, channels]; w [width, channels] with 1 <= width <= 8; bias
// [channels] or null; history [width - 1, channels] or null data for zeros.
// y must not overlap x.
void CausalConvForward(MatrixView<const float> x, MatrixView<const float> w,
                       const float* bias, MatrixView<const float> history,
                       MatrixView<float> y);
void CausalConvForward(MatrixView<const double> x, MatrixView<const double> w,
                       const double* bias, MatrixView<const double> history,
                       MatrixView<double> y);

// Gradients for a zero history, added to d_x, d_w and d_bias (null: unwanted).
void CausalConvBackward(MatrixView<const float> x, MatrixView<const float> w,
                        MatrixView<const float> d_y, MatrixView<float> d_x,
                        MatrixView<float> d_w, float* d_bias);
void CausalConvBackward(MatrixView<const double> x, MatrixView<const double> w,
                        MatrixView<const double> d_y, MatrixView<double> d_x,
                        MatrixView<double> d_w, double* d_bias);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_CAUSAL_CONV_H_
