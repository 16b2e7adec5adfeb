// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/fft_conv.h"

#include <algorithm>
#include <cmath>
#include <kissfft/kissfft.hh>

#include "attention/kernels/long_conv.h"

namespace mneme::kernels {
namespace {

using Complex = std::complex<double>;

// Without the care that operator* takes of products of infinities.
Complex Product(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(),
          a.real() * b.imag() + a.imag() * b.real()};
}

// A matrix in memory of its own, zero at first.
template <typename T>
class OwnMatrix {
 public:
  OwnMatrix(size_t rows, size_t cols)
      : values_(rows * cols), view_(values_.data(), rows, cols) {}
  MatrixView<T> view() { return view_; }
  MatrixView<const T> constant() const { return view_; }
  const std::vector<T>& values() const { return values_; }

 private:
  std::vector<T> values_;
  MatrixView<T> view_;
};

// to's rows are from's, last row first.
template <typename T>
void Reverse(MatrixView<const T> from, MatrixView<T> to) {
  for (size_t r = 0; r < from.rows; ++r) {
    std::copy_n(from.row(from.rows - 1 - r), from.cols, to.row(r));
  }
}

// Textbook work of a real transform.
double FftFlops(double size) { return 2.5 * size * std::log2(size); }

// Of `rows` rows with one another, without the transforms of the filter.
double BlockFlops(size_t rows, size_t leaf) {
  if (rows <= leaf) return static_cast<double>(rows) * (rows + 1);
  size_t half = leaf;
  while (2 * half < rows) half *= 2;
  const size_t rest = rows - half;
  // A few rows directly, or two transforms and a product of bins.
  const double size = FftSize(2 * half);
  const double across =
      rest <= leaf ? 2.0 * half * rest : 2 * FftFlops(size) + 3 * size;
  return BlockFlops(half, leaf) + across + BlockFlops(rest, leaf);
}

}  // namespace

size_t FftSize(size_t rows) {
  size_t size = 4;
  while (size < rows) size *= 2;
  return size;
}

// A real column rides a complex transform of half its size.
struct LongFft::Plan {
  kissfft<double> forward, inverse;
  Spectra turns;  // e^{2 pi i k / size}

  explicit Plan(size_t size)
      : forward(size / 2, false), inverse(size / 2, true) {
    const double step = 2 * std::acos(-1.0) / static_cast<double>(size);
    for (size_t k = 0; k < size / 2; ++k) {
      turns.push_back(std::polar(1.0, step * static_cast<double>(k)));
    }
  }

  template <typename T>
  Spectra Transform(MatrixView<const T> x) const {
    const size_t bins = turns.size();
    Spectra result(bins * x.cols);
    std::vector<double> column(2 * bins);
    for (size_t c = 0; c < x.cols; ++c) {
      for (size_t r = 0; r < x.rows; ++r) column[r] = x(r, c);
      forward.transform_real(column.data(), &result[bins * c]);
    }
    return result;
  }

  template <typename T>
  void AddInverse(const Spectra& spectra, size_t first, MatrixView<T> y) const {
    const size_t bins = turns.size();
    const double scale = 1 / static_cast<double>(bins);
    Spectra halves(bins), pairs(bins);
    for (size_t c = 0; c < y.cols; ++c) {
      const Complex* in = &spectra[bins * c];
      // Transforms of the even and of the odd rows, from which that of (even) +
      // i (odd).
      const double zero = in[0].real(), middle = in[0].imag();
      halves[0] = {(zero + middle) / 2, (zero - middle) / 2};
      for (size_t k = 1; k < bins; ++k) {
        const Complex other = std::conj(in[bins - k]);
        const Complex odd = Product((in[k] - other) * 0.5, turns[k]);
        halves[k] = (in[k] + other) * 0.5 + Complex(-odd.imag(), odd.real());
      }
      inverse.transform(halves.data(), pairs.data());
      for (size_t r = 0; r < y.rows; ++r) {
        const Complex pair = pairs[(first + r) / 2];
        const double value = (first + r) % 2 == 0 ? pair.real() : pair.imag();
        y(r, c) += static_cast<T>(value * scale);
      }
    }
  }
};

LongFft::LongFft(size_t size)
    : size_(size), plan_(std::make_unique<Plan>(size)) {}
LongFft::~LongFft() = default;

Spectra LongFft::Transform(MatrixView<const float> x) const {
  return plan_->Transform(x);
}
Spectra LongFft::Transform(MatrixView<const double> x) const {
  return plan_->Transform(x);
}

void LongFft::MultiplyAdd(const Spectra& a, const Spectra& b,
                          Spectra* sum) const {
  sum->resize(a.size());
  const size_t bins = size_ / 2;
  for (size_t start = 0; start < a.size(); start += bins) {
    // Bin 0 holds two real ones.
    (*sum)[start] += Complex(a[start].real() * b[start].real(),
                             a[start].imag() * b[start].imag());
    for (size_t k = start + 1; k < start + bins; ++k) {
      (*sum)[k] += Product(a[k], b[k]);
    }
  }
}

void LongFft::AddInverse(const Spectra& spectra, size_t first,
                         MatrixView<float> y) const {
  plan_->AddInverse(spectra, first, y);
}
void LongFft::AddInverse(const Spectra& spectra, size_t first,
                         MatrixView<double> y) const {
  plan_->AddInverse(spectra, first, y);
}

template <typename T>
void CausalFftConv<T>::Apply(MatrixView<const T> x, size_t first,
                             MatrixView<T> y) {
  size_t size = leaf_;
  while (size < x.rows) size *= 2;
  Block({x, first, y}, 0, size);
}

// What rows [begin, begin + size) give to one another.
template <typename T>
void CausalFftConv<T>::Block(const Call& call, size_t begin, size_t size) {
  const size_t end = std::min(begin + size, call.x.rows);
  if (end <= std::max(begin, call.first)) return;
  if (size <= leaf_) {
    const size_t from = std::max(begin, call.first);
    LongConv(call.x.Rows(begin, end - begin), h_, from - begin,
             call.y.Rows(from - call.first, end - from));
    return;
  }
  const size_t middle = begin + size / 2;
  Block(call, begin, size / 2);
  if (middle >= end) return;
  Add(call, begin, middle, end);
  Block(call, middle, size / 2);
}

// What rows [begin, middle) give to rows [middle, end).
template <typename T>
void CausalFftConv<T>::Add(const Call& call, size_t begin, size_t middle,
                           size_t end) {
  const size_t from = std::max(middle, call.first), half = middle - begin;
  const MatrixView<const T> x = call.x.Rows(begin, half);
  const MatrixView<T> y = call.y.Rows(from - call.first, end - from);
  // A few outputs, as when a token is decoded, are not worth a transform.
  if (y.rows <= leaf_) return LongConv(x, h_, from - begin, y);
  Level& level = levels_[half];
  if (level.fft == nullptr) {
    // Of the half + 2 half - 1 rows of the product those wrap around that no
    // one asks for: the last ones, onto the first.
    level.fft = std::make_unique<LongFft>(FftSize(2 * half));
    level.filter =
        level.fft->Transform(h_.Rows(0, std::min(h_.rows, 2 * half)));
  }
  Spectra product;
  level.fft->MultiplyAdd(level.fft->Transform(x), level.filter, &product);
  level.fft->AddInverse(product, from - begin, y);
}

template class CausalFftConv<float>;
template class CausalFftConv<double>;

template <typename T>
LongConvGradient<T>::LongConvGradient(MatrixView<const T> h, size_t direct)
    : h_(h), d_h_(h.rows * h.cols) {
  if (h.rows <= direct) return;
  fft_ = std::make_unique<LongFft>(FftSize(2 * h.rows));
  filter_ = fft_->Transform(h);
}

template <typename T>
void LongConvGradient<T>::Sequence(MatrixView<const T> x,
                                   MatrixView<const T> d_y, MatrixView<T> d_x) {
  OwnMatrix<T> backwards(h_.rows, h_.cols), result(h_.rows, h_.cols);
  Reverse(d_y, backwards.view());
  if (fft_ == nullptr) {
    LongConv(backwards.constant(), h_, 0, result.view());
    OwnMatrix<T> part(h_.rows, h_.cols);
    LongConv(x, backwards.constant(), 0, part.view());
    for (size_t i = 0; i < d_h_.size(); ++i) d_h_[i] += part.values()[i];
  } else {
    const Spectra bins = fft_->Transform(backwards.constant());
    Spectra product;
    fft_->MultiplyAdd(bins, filter_, &product);
    fft_->AddInverse(product, 0, result.view());
    fft_->MultiplyAdd(bins, fft_->Transform(x), &sum_);
  }
  Reverse(result.constant(), d_x);
}

template <typename T>
std::vector<double> LongConvGradient<T>::Filter() const {
  OwnMatrix<double> backwards(h_.rows, h_.cols), d_h(h_.rows, h_.cols);
  std::copy(d_h_.begin(), d_h_.end(), backwards.view().data);
  if (!sum_.empty()) fft_->AddInverse(sum_, 0, backwards.view());
  Reverse(backwards.constant(), d_h.view());
  return d_h.values();
}

template class LongConvGradient<float>;
template class LongConvGradient<double>;

double CausalFftConvFlops(size_t rows, size_t leaf, size_t sequences) {
  double filter = 0;
  for (size_t half = 2 * leaf; half + leaf < rows; half *= 2) {
    filter += FftFlops(FftSize(2 * half));
  }
  return filter + sequences * BlockFlops(rows, leaf);
}

}  // namespace mneme::kernels
