// SPDX-License-Identifier: Apache-2.0
//
// Long convolution by the fast Fourier transform (long_fft.h), each column of a
// matrix by itself. The calling thread flushes denormal numbers meanwhile, as
// filters fade.
//
// A thread keeps what it computes in for its next call: about 2 KB a row of the
// longest sequence so far. What is measured of a process's memory afterwards
// has that in it.

#ifndef MNEME_ATTENTION_KERNELS_FFT_CONV_H_
#define MNEME_ATTENTION_KERNELS_FFT_CONV_H_

#include <cstddef>
#include <vector>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// One sequence of a causal convolution: rows [first, x.rows) of it are added to
// y [x.rows - first, channels].
template <typename T>
struct ConvSequence {
  MatrixView<const T> x;
  MatrixView<T> y;
};

// Causal convolution with one filter, y[t] += sum_{s <= t} h[t - s] x[s], by
// transforms of which none spans an output and its future. A sequence is taken
// in blocks of `leaf` rows, which are convolved directly. Then every so many
// blocks are joined to a larger one, within which earlier ones give to later
// ones,
//
//   y_i += inverse(sum_{j < i} transform(x_j) transform(h_{i-j})),
//
// with h_p = taps [(p - 1) n, (p + 1) n) for blocks of n rows (uniformly
// partitioned convolution); and again with those, until one block is left. A
// level's transforms are of one size and as many as it has blocks, so that the
// work grows almost like that of one transform of the whole. One transform of
// the whole would let a token's rounding errors, or a NaN, reach the tokens
// before it; this is causal to the last bit. Errors are relative to the largest
// product of an earlier block's entries with the taps, not to the terms of an
// output.
//
// All sequences have the same number of rows, and h [at least so many,
// channels]. leaf >= 1. The filter is transformed once for all of them.
void CausalFftConv(MatrixView<const float> h, size_t leaf, size_t first,
                   const std::vector<ConvSequence<float>>& sequences);
void CausalFftConv(MatrixView<const double> h, size_t leaf, size_t first,
                   const std::vector<ConvSequence<double>>& sequences);

template <typename T>
struct GradientSequence {
  MatrixView<const T> x, d_y;  // [length, channels]
  MatrixView<T> d_x;           // is written
};

// Gradients of y[t] = sum_{s <= t} h[t - s] x[s], as convolutions of rows in
// reverse order (long_conv.h), for h [length, channels] and all sequences.
// Writes that by h [length, channels]: each sequence is summed by itself, and
// all together in float64 in their order. They may see everything: beyond
// `direct` rows they are taken in blocks of one size, all pairs of which are
// convolved by transforms.
void LongConvGradient(MatrixView<const float> h, size_t direct,
                      const std::vector<GradientSequence<float>>& sequences,
                      MatrixView<float> d_h);
void LongConvGradient(MatrixView<const double> h, size_t direct,
                      const std::vector<GradientSequence<double>>& sequences,
                      MatrixView<double> d_h);

// FLOPs a channel of CausalFftConv on all of `rows` rows of as many
// sequences, with the transforms of the filter, which they share.
double CausalFftConvFlops(size_t rows, size_t leaf, size_t sequences);

// The same of LongConvGradient.
double LongConvGradientFlops(size_t rows, size_t direct, size_t sequences);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_FFT_CONV_H_
