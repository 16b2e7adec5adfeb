// SPDX-License-Identifier: Apache-2.0
//
// Long convolution by the fast Fourier transform (long_fft.h), each column of a
// matrix by itself.

#ifndef MNEME_ATTENTION_KERNELS_FFT_CONV_H_
#define MNEME_ATTENTION_KERNELS_FFT_CONV_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "attention/kernels/long_fft.h"
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
// in blocks of `leaf` rows, the filter in overlapping ones of twice that:
//
//   y_i = direct(x_i) + inverse(sum_{j < i} transform(x_j) transform(h_{i-j})),
//
// with h_p = taps [(p - 1) leaf, (p + 1) leaf): all transforms are of one size,
// small enough for the cache, and as many as there are blocks (uniformly
// partitioned convolution). Where one transform of the whole would let a
// token's rounding errors, or a NaN, reach the tokens before it, this is causal
// to the last bit. Blocks are convolved directly.
//
// All sequences have the same number of rows, and h [at least so many,
// channels]. leaf >= 1. The filter is transformed once for all of them.
void CausalFftConv(MatrixView<const float> h, size_t leaf, size_t first,
                   const std::vector<ConvSequence<float>>& sequences);
void CausalFftConv(MatrixView<const double> h, size_t leaf, size_t first,
                   const std::vector<ConvSequence<double>>& sequences);

// Gradients of y[t] = sum_{s <= t} h[t - s] x[s] for one filter and one
// sequence after another, as convolutions of rows in reverse order
// (long_conv.h). They may see everything: beyond `direct` rows it takes one
// transform of twice the length. Not thread-safe.
template <typename T>
class LongConvGradient {
 public:
  // h [length, channels], where every sequence has this length, must outlive
  // this.
  LongConvGradient(MatrixView<const T> h, size_t direct);

  // Writes d_x [length, channels] and keeps what d_y gives to the filter.
  void Sequence(MatrixView<const T> x, MatrixView<const T> d_y,
                MatrixView<T> d_x);

  // The gradient by h, row by row: of all sequences in their order, each summed
  // by itself and all together in float64.
  std::vector<double> Filter() const;

 private:
  MatrixView<const T> h_;
  std::vector<double> d_h_;  // of direct sums, rows in reverse order
  // Of transforms.
  std::unique_ptr<LongFft> fft_;
  Spectra filter_, sum_;
};

// FLOPs a channel of CausalFftConv on all of `rows` rows of as many
// sequences, with the transforms of the filter, which they share.
double CausalFftConvFlops(size_t rows, size_t leaf, size_t sequences);

// The same of LongConvGradient.
double LongConvGradientFlops(size_t rows, size_t direct, size_t sequences);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_FFT_CONV_H_
