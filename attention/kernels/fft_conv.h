// SPDX-License-Identifier: Apache-2.0
//
// Long convolution by the fast Fourier transform, each column of a matrix by
// itself. Columns padded with zeros to `size` have transforms whose product is
// the transform of their circular convolution,
//
//   y[t] = sum over s of a[s] b[(t - s) mod size],
//
// in which rows [n_a + n_b - 1 - size, size) are free of wrap-around. For two
// sequences of n rows, size >= 2 n keeps all of it away.
//
// Transforms are float64 whatever the sequences are: rounding in a transform
// spreads over all of its rows, and this keeps it far below float32's.

#ifndef MNEME_ATTENTION_KERNELS_FFT_CONV_H_
#define MNEME_ATTENTION_KERNELS_FFT_CONV_H_

#include <complex>
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// The smallest size that LongFft takes and that has room for `rows` rows.
size_t FftSize(size_t rows);

// Transforms of a matrix's columns, one after the other: the size / 2 first
// bins of each, with the real one in the middle as bin 0's imaginary part.
using Spectra = std::vector<std::complex<double>>;

// The transform of one size, a power of two, for which kissfft needs no scratch
// memory of its own: immutable and thread-safe.
class LongFft {
 public:
  explicit LongFft(size_t size);  // from FftSize
  ~LongFft();
  LongFft(const LongFft&) = delete;
  LongFft& operator=(const LongFft&) = delete;

  size_t size() const { return size_; }

  // Of x's columns, padded with zeros; x has at most `size` rows.
  Spectra Transform(MatrixView<const float> x) const;
  Spectra Transform(MatrixView<const double> x) const;

  // sum += a b, for as many columns each. An empty sum counts as zero.
  void MultiplyAdd(const Spectra& a, const Spectra& b, Spectra* sum) const;

  // y += rows [first, first + y.rows) of what has these transforms.
  void AddInverse(const Spectra& spectra, size_t first,
                  MatrixView<float> y) const;
  void AddInverse(const Spectra& spectra, size_t first,
                  MatrixView<double> y) const;

 private:
  struct Plan;
  size_t size_;
  std::unique_ptr<const Plan> plan_;
};

// Causal convolution with one filter, y[t] += sum_{s <= t} h[t - s] x[s], by
// transforms of which none spans an output and its future: of every aligned
// pair of neighbouring blocks of leaf, 2 leaf, 4 leaf, ... rows the second
// receives what the first gives to it (van der Hoeven's relaxed multiplication;
// for long convolution models arXiv 2410.12982), and blocks of `leaf` rows are
// convolved directly. Where one transform of the whole would let a token's
// rounding errors, or a NaN, reach the tokens before it, this is causal to the
// last bit, for log(length / leaf) / 2 times the work.
//
// Keeps the filter's transforms for the next sequence. Not thread-safe.
template <typename T>
class CausalFftConv {
 public:
  // h [at least x.rows, channels] of any x to come must outlive this; leaf
  // >= 1.
  CausalFftConv(MatrixView<const T> h, size_t leaf) : h_(h), leaf_(leaf) {}

  // Rows [first, x.rows) of the convolution, added to y [x.rows - first,
  // channels].
  void Apply(MatrixView<const T> x, size_t first, MatrixView<T> y);

 private:
  struct Level {  // blocks of one size
    std::unique_ptr<LongFft> fft;
    Spectra filter;
  };
  struct Call {
    MatrixView<const T> x;
    size_t first;
    MatrixView<T> y;
  };
  void Block(const Call& call, size_t begin, size_t size);
  void Add(const Call& call, size_t begin, size_t middle, size_t end);

  MatrixView<const T> h_;
  size_t leaf_;
  std::map<size_t, Level> levels_;
};

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

// FLOPs a channel of CausalFftConv::Apply on all of `rows` rows of as many
// sequences, with the transforms of the filter, which they share.
double CausalFftConvFlops(size_t rows, size_t leaf, size_t sequences);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_FFT_CONV_H_
