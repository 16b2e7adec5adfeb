// SPDX-License-Identifier: Apache-2.0
//
// Real Fourier transforms of a matrix's columns, as many at once as a vector
// has lanes: the tokens of neighbouring channels lie next to each other, and
// the library's transform, a template over its numbers, runs on vectors of
// them.
//
// Columns padded with zeros to `size` have transforms whose product is the
// transform of their circular convolution,
//
//   y[t] = sum over s of a[s] b[(t - s) mod size],
//
// in which rows [n_a + n_b - 1 - size, size) are free of wrap-around. For two
// sequences of n rows, size >= 2 n keeps all of it away.
//
// Transforms are float64 whatever the sequences are: rounding in a transform
// spreads over all of its rows, and this keeps it far below float32's. Columns
// do not touch one another, whatever they hold.

#ifndef MNEME_ATTENTION_KERNELS_LONG_FFT_H_
#define MNEME_ATTENTION_KERNELS_LONG_FFT_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "attention/kernels/matrix.h"
#include "hwy/aligned_allocator.h"

namespace mneme::kernels {

// The smallest size that LongFft takes and that has room for `rows` rows.
size_t FftSize(size_t rows);

// Transforms of a matrix's columns, in an order that is LongFft's own business.
class Spectra {
 public:
  bool empty() const { return size_ == 0; }

 private:
  friend class LongFft;
  // Makes room; the entries are zero if `clear`, else unspecified.
  double* Resize(size_t size, bool clear);

  size_t size_ = 0, capacity_ = 0;
  hwy::AlignedFreeUniquePtr<double[]> data_;
};

// The transform of one size, a power of two: immutable and thread-safe.
class LongFft {
 public:
  explicit LongFft(size_t size);  // from FftSize
  ~LongFft();
  LongFft(const LongFft&) = delete;
  LongFft& operator=(const LongFft&) = delete;

  size_t size() const { return size_; }

  // Of x's columns, padded with zeros; x has at most `size` rows.
  void Transform(MatrixView<const float> x, Spectra* result) const;
  void Transform(MatrixView<const double> x, Spectra* result) const;

  // sum += a b, for as many columns each. An empty sum counts as zero.
  void MultiplyAdd(const Spectra& a, const Spectra& b, Spectra* sum) const;

  // (*sums)[i - first] = sum_{j < i} a[i - 1 - j] b[j] for i in [first, last],
  // in the order of j; 1 <= first, and a and b have `last` spectra at least.
  void Convolve(const std::vector<Spectra>& a, const std::vector<Spectra>& b,
                size_t first, size_t last, std::vector<Spectra>* sums) const;

  // y += rows [first, first + y.rows) of what has these transforms.
  void AddInverse(const Spectra& spectra, size_t first,
                  MatrixView<float> y) const;
  void AddInverse(const Spectra& spectra, size_t first,
                  MatrixView<double> y) const;

  // What a SIMD target brings.
  class Plan {
   public:
    virtual ~Plan() = default;
    // Numbers in the spectra of so many columns.
    virtual size_t Size(size_t columns) const = 0;
    virtual void Transform(MatrixView<const float> x, double* to) const = 0;
    virtual void Transform(MatrixView<const double> x, double* to) const = 0;
    // sums[i - first] += sum_{j < i} a[i - 1 - j] b[j], each of `size` numbers.
    virtual void Convolve(const double* const* a, const double* const* b,
                          size_t first, size_t last, size_t size,
                          double* const* sums) const = 0;
    virtual void AddInverse(const double* spectra, size_t first,
                            MatrixView<float> y) const = 0;
    virtual void AddInverse(const double* spectra, size_t first,
                            MatrixView<double> y) const = 0;
  };

 private:
  size_t size_;
  std::unique_ptr<const Plan> plan_;
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_LONG_FFT_H_
