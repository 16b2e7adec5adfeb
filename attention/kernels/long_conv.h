// SPDX-License-Identifier: Apache-2.0
//
// Depthwise convolution along a sequence with a filter as long as the sequence,
// each channel by itself, directly from the definition:
//
//   y[t, c] += sum over rows s of x of h[offset + t - s, c] x[s, c],
//
// where taps outside of h count as zero. Row 0 of y stands `offset` tokens
// after row 0 of x: 0 convolves a sequence causally, x.rows adds what a block
// of tokens gives to those that follow it, and with one row it is a decoding
// step. Both gradients of a causal convolution are causal convolutions of rows
// in reverse order:
//
//   reverse(d_x) = h * reverse(d_y),   reverse(d_h) = x * reverse(d_y).
//
// What no tap reaches is not read: a NaN in a token's future stays there. Short
// filters have causal_conv.h, which keeps all taps in registers; where there
// are thousands, fft_conv.h is faster.

#ifndef MNEME_ATTENTION_KERNELS_LONG_CONV_H_
#define MNEME_ATTENTION_KERNELS_LONG_CONV_H_

#include <cstddef>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// x [n, channels], h [taps, channels], y [m, channels]; any of the sizes may be
// zero. The order of a row's terms depends on the sizes and the offset only.
void LongConv(MatrixView<const float> x, MatrixView<const float> h,
              size_t offset, MatrixView<float> y);
void LongConv(MatrixView<const double> x, MatrixView<const double> h,
              size_t offset, MatrixView<double> y);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_LONG_CONV_H_
