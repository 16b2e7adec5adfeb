// SPDX-License-Identifier: Apache-2.0
//
// Real Fourier transforms of a matrix's columns, as many at once as two vectors
// have lanes: the tokens of neighbouring channels lie next to each other, and
// the library's transform, a template over its numbers, runs on vectors of
// them.
//
// Columns padded with zeros to `size` have transforms whose product is the
// transform of their convolution, of which what is beyond `size` comes back
// with its sign changed:
//
//   y[t] = sum over s <= t of a[s] b[t - s] - sum over s > t of
//          a[s] b[t - s + size].
//
// There rows [n_a + n_b - 1 - size, size) are free of the second sum. For two
// sequences of n rows, size >= 2 n keeps all of it away.
//
// Rounding in a transform, which computes in the type of the sequences, spreads
// over all of its rows: an error is relative to the largest of them. Columns do
// not touch one another, whatever they hold.

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
template <typename T>
class Spectra {
 private:
  template <typename>
  friend class LongFft;
  T* Resize(size_t size);  // makes room, for whatever

  size_t size_ = 0, capacity_ = 0;
  hwy::AlignedFreeUniquePtr<T[]> data_;
  T* begin_ = nullptr;  // in there
};

// The transform of one size, a power of two: immutable and thread-safe.
template <typename T>
class LongFft {
 public:
  explicit LongFft(size_t size);  // a power of two, 4 at least: see FftSize

  size_t size() const { return size_; }

  // Of x's columns, padded with zeros; x has at most `size` rows.
  void Transform(MatrixView<const T> x, Spectra<T>* result) const;

  // (*sums)[i - first] = sum_{j < i} a[i - 1 - j] b[j] for i in [first, last],
  // in the order of j; 1 <= first, and a and b have `last` spectra at least.
  void Convolve(const std::vector<Spectra<T>>& a,
                const std::vector<Spectra<T>>& b, size_t first, size_t last,
                std::vector<Spectra<T>>* sums) const;

  // y += rows [first, first + y.rows) of a product or sum of products.
  void AddInverse(const Spectra<T>& spectra, size_t first,
                  MatrixView<T> y) const;

  // What a SIMD target brings.
  class Plan {
   public:
    virtual ~Plan() = default;
    // Numbers in the spectra of so many columns.
    virtual size_t Size(size_t columns) const = 0;
    virtual void Transform(MatrixView<const T> x, T* to) const = 0;
    // sums[i - first] = sum_{j < i} a[i - 1 - j] b[j], each of `size` numbers.
    virtual void Convolve(const T* const* a, const T* const* b, size_t first,
                          size_t last, size_t size, T* const* sums) const = 0;
    virtual void AddInverse(const T* spectra, size_t first,
                            MatrixView<T> y) const = 0;
  };

 private:
  size_t size_;
  std::shared_ptr<const Plan> plan_;
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_LONG_FFT_H_
