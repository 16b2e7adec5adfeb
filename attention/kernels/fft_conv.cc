// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/fft_conv.h"

#include <algorithm>
#include <cmath>

#include "attention/kernels/long_conv.h"

namespace mneme::kernels {
namespace {

// Channels that are copied next to each other, a cache line of float, as rows
// far apart are slow to read and compete for cache sets; and those of them that
// go through all transforms together, a vector, so that the spectra of some
// 10,000 rows fit the cache.
constexpr size_t kPanel = 16, kTransformed = 8;

template <typename E>
MatrixView<E> Columns(MatrixView<E> x, size_t first, size_t count) {
  return {x.data + first, x.rows, count, x.stride};
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

// to = from, of which there are at least as many rows.
template <typename T>
void Copy(MatrixView<const T> from, MatrixView<T> to) {
  for (size_t r = 0; r < to.rows; ++r) {
    std::copy_n(from.row(r), to.cols, to.row(r));
  }
}

// to's rows are from's, last row first.
template <typename T>
void Reverse(MatrixView<const T> from, MatrixView<T> to) {
  for (size_t r = 0; r < from.rows; ++r) {
    std::copy_n(from.row(from.rows - 1 - r), from.cols, to.row(r));
  }
}

// Textbook work of a real transform.
double FftFlops(double size) { return 2.5 * size * std::log2(size); }

// Of sums over what comes before each of n rows.
double DirectFlops(double n) { return n * (n + 1); }

size_t Blocks(size_t rows, size_t leaf) { return (rows + leaf - 1) / leaf; }

// What blocks give to themselves.
template <typename T>
void AddOwnBlocks(MatrixView<const T> h, size_t leaf, MatrixView<const T> x,
                  size_t first, MatrixView<T> y) {
  for (size_t begin = first / leaf * leaf; begin < x.rows; begin += leaf) {
    const size_t end = std::min(begin + leaf, x.rows);
    const size_t from = std::max(begin, first);
    LongConv(x.Rows(begin, end - begin), h, from - begin,
             y.Rows(from - first, end - from));
  }
}

// What earlier blocks give to rows [first, end) of some channels.
template <typename T>
void AddEarlierBlocks(const LongFft& fft, size_t leaf,
                      const std::vector<Spectra>& filter, MatrixView<const T> x,
                      size_t first, MatrixView<T> y,
                      std::vector<Spectra>* blocks,
                      std::vector<Spectra>* sums) {
  const size_t earlier = filter.size();
  blocks->resize(earlier);
  for (size_t j = 0; j < earlier; ++j) {
    fft.Transform(x.Rows(j * leaf, leaf), &(*blocks)[j]);
  }
  const size_t from_block = std::max<size_t>(1, first / leaf);
  fft.Convolve(filter, *blocks, from_block, earlier, sums);
  for (size_t i = from_block; i <= earlier; ++i) {
    const size_t begin = i * leaf, from = std::max(begin, first);
    const size_t end = std::min(begin + leaf, x.rows);
    // Of the 3 leaf - 1 rows of the product those wrap around that no one asks
    // for: the last ones, onto the first.
    fft.AddInverse((*sums)[i - from_block], leaf + from - begin,
                   y.Rows(from - first, end - from));
  }
}

template <typename T>
void Convolve(MatrixView<const T> h, size_t leaf, size_t first,
              const std::vector<ConvSequence<T>>& sequences) {
  if (sequences.empty()) return;
  const size_t rows = sequences[0].x.rows;
  // A few outputs, as when a token is decoded, are not worth a transform.
  if (rows - first <= leaf) {
    for (const ConvSequence<T>& s : sequences) LongConv(s.x, h, first, s.y);
    return;
  }
  const LongFft fft(FftSize(2 * leaf));
  std::vector<Spectra> blocks, sums;
  std::vector<std::vector<Spectra>> filters(kPanel / kTransformed);
  OwnMatrix<T> own_taps(std::min(h.rows, rows + leaf), kPanel);
  OwnMatrix<T> own_x(rows, kPanel), own_y(rows - first, kPanel);
  for (size_t channel = 0; channel < h.cols; channel += kPanel) {
    const size_t count = std::min(kPanel, h.cols - channel);
    // body(i, first, n) for the i-th few of them.
    const auto for_each_few = [count](const auto& body) {
      for (size_t c = 0; c < count; c += kTransformed) {
        body(c / kTransformed, c, std::min(kTransformed, count - c));
      }
    };
    const MatrixView<T> taps = Columns(own_taps.view(), 0, count);
    const MatrixView<T> x = Columns(own_x.view(), 0, count);
    const MatrixView<T> y = Columns(own_y.view(), 0, count);
    Copy(Columns(h, channel, count), taps);
    for_each_few([&](size_t i, size_t c, size_t n) {
      filters[i].resize(Blocks(rows, leaf) - 1);
      for (size_t p = 0; p < filters[i].size(); ++p) {
        const size_t begin = p * leaf;
        const size_t end = std::min(begin + 2 * leaf, taps.rows);
        fft.Transform(Columns<const T>(taps.Rows(begin, end - begin), c, n),
                      &filters[i][p]);
      }
    });
    for (const ConvSequence<T>& s : sequences) {
      Copy(Columns(s.x, channel, count), x);
      Copy(Columns(MatrixView<const T>(s.y), channel, count), y);
      AddOwnBlocks<T>(taps, leaf, x, first, y);
      for_each_few([&](size_t i, size_t c, size_t n) {
        AddEarlierBlocks<T>(fft, leaf, filters[i], Columns(x, c, n), first,
                            Columns(y, c, n), &blocks, &sums);
      });
      Copy(MatrixView<const T>(y), Columns(s.y, channel, count));
    }
  }
}

}  // namespace

void CausalFftConv(MatrixView<const float> h, size_t leaf, size_t first,
                   const std::vector<ConvSequence<float>>& sequences) {
  Convolve(h, leaf, first, sequences);
}
void CausalFftConv(MatrixView<const double> h, size_t leaf, size_t first,
                   const std::vector<ConvSequence<double>>& sequences) {
  Convolve(h, leaf, first, sequences);
}

template <typename T>
LongConvGradient<T>::LongConvGradient(MatrixView<const T> h, size_t direct)
    : h_(h), d_h_(h.rows * h.cols) {
  if (h.rows <= direct) return;
  fft_ = std::make_unique<LongFft>(FftSize(2 * h.rows));
  fft_->Transform(h, &filter_);
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
    Spectra bins, of_x, product;
    fft_->Transform(backwards.constant(), &bins);
    fft_->Transform(x, &of_x);
    fft_->MultiplyAdd(bins, filter_, &product);
    fft_->AddInverse(product, 0, result.view());
    fft_->MultiplyAdd(bins, of_x, &sum_);
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
  if (rows <= leaf) return sequences * DirectFlops(rows);
  const double earlier = Blocks(rows, leaf) - 1, size = FftSize(2 * leaf);
  // Transforms there and back, and four multiply-adds for each bin of each pair
  // of blocks.
  const double products = earlier * (earlier + 1) / 2 * 4 * size;
  return earlier * FftFlops(size) +
         sequences *
             (earlier * DirectFlops(leaf) + DirectFlops(rows - earlier * leaf) +
              2 * earlier * FftFlops(size) + products);
}

double LongConvGradientFlops(size_t rows, size_t direct, size_t sequences) {
  if (rows <= direct) return sequences * 2 * DirectFlops(rows);
  const double size = FftSize(2 * rows);
  // The filter there and its gradient back; of a sequence two there and one
  // back, and two products.
  return 2 * FftFlops(size) + sequences * (3 * FftFlops(size) + 2 * 4 * size);
}

}  // namespace mneme::kernels
