// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/fft_conv.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "attention/kernels/channel_panel.h"
#include "attention/kernels/denormals.h"
#include "attention/kernels/long_conv.h"
#include "attention/kernels/long_fft.h"

namespace mneme::kernels {
namespace {

// Blocks that a level joins to one of the next level: so few that what belongs
// to them fits the cache, so many that there are few levels.
constexpr size_t kFan = 16;

// What a thread computes in. It is kept: to get the pages of memory that is
// allocated anew in every call takes longer than to compute in them, and for
// gradients of 131072 rows still a third as long.
template <typename T>
struct Workspace {
  // Of a panel's channels; y of its sums, or d_y backwards.
  OwnMatrix<T> h, x, y, result;
  OwnMatrix<double> sum;
  // Transforms of each level's filter (or of h and of x), of a sequence's
  // blocks, and of sums of their products.
  std::vector<std::vector<Spectra<T>>> filters;
  std::vector<Spectra<T>> blocks, sums;
};

template <typename T>
Workspace<T>* ThreadWorkspace() {
  thread_local Workspace<T> workspace;
  return &workspace;
}

// Textbook work of a real transform.
double FftFlops(double size) { return 2.5 * size * std::log2(size); }

// Of sums over what comes before each of n rows.
double DirectFlops(double n) { return n * (n + 1); }

size_t Blocks(size_t rows, size_t size) { return (rows + size - 1) / size; }

// Sizes of the blocks that sequences of some rows are taken in: of the leaves,
// of what the first level joins, and so on.
std::vector<size_t> LevelBlocks(size_t rows, size_t leaf) {
  std::vector<size_t> result;
  for (size_t size = leaf; size < rows; size *= kFan) result.push_back(size);
  return result;
}

// Transforms of `rows` rows, as far as there are so many, and of those that
// begin `step` rows later each time.
template <typename T>
void TransformBlocks(const LongFft<T>& fft, MatrixView<const T> x, size_t rows,
                     size_t step, size_t count,
                     std::vector<Spectra<T>>* result) {
  if (result->size() < count) result->resize(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = i * step, end = std::min(begin + rows, x.rows);
    fft.Transform(x.Rows(begin, end - begin), &(*result)[i]);
  }
}

// The causal convolution of sequences of some rows with a panel of the filter.
template <typename T>
class PanelConv {
 public:
  PanelConv(size_t rows, size_t leaf, size_t first)
      : sizes_(LevelBlocks(rows, leaf)),
        rows_(rows),
        first_(first),
        work_(ThreadWorkspace<T>()) {
    for (const size_t size : sizes_) {
      ffts_.push_back(std::make_unique<LongFft<T>>(FftSize(2 * size)));
    }
    if (work_->filters.size() < sizes_.size()) {
      work_->filters.resize(sizes_.size());
    }
  }

  void SetFilter(MatrixView<const T> h) {
    taps_ = Columns(work_->h.Resize(rows_, kPanel<T>), 0, h.cols);
    Copy(h, 0, rows_, taps_);
    for (size_t level = 0; level < sizes_.size(); ++level) {
      const size_t size = sizes_[level];
      TransformBlocks<T>(*ffts_[level], taps_, 2 * size, size,
                         std::min(Blocks(rows_, size), kFan) - 1,
                         &work_->filters[level]);
    }
  }

  void Add(MatrixView<const T> x, MatrixView<T> y) {
    from_ = x;
    x_ = Columns(work_->x.Resize(rows_, kPanel<T>), 0, x.cols);
    y_ = Columns(work_->y.Resize(rows_ - first_, kPanel<T>), 0, x.cols);
    AddWithin(sizes_.size(), 0, rows_);
    AddRows<T>(y_, y);
  }

 private:
  // What rows [begin, end) give to one another, a block of the given level or
  // what there is of it.
  void AddWithin(size_t level, size_t begin, size_t end) {
    if (level == 0) return AddDirectly(begin, end);
    const size_t size = sizes_[level - 1];
    for (size_t b = begin; b < end; b += size) {
      AddWithin(level - 1, b, std::min(b + size, end));
    }
    if (end > first_ && end - begin > size) AddEarlier(level - 1, begin, end);
  }

  void AddDirectly(size_t begin, size_t end) {
    Copy(from_, begin, end, x_);
    if (end <= first_) return;
    const size_t from = std::max(begin, first_);
    const MatrixView<T> y = Rows(y_, from - first_, end - first_);
    Clear(y);
    LongConv(Rows(x_, begin, end), taps_, from - begin, y);
  }

  // What earlier blocks of one level give to later ones.
  void AddEarlier(size_t level, size_t begin, size_t end) {
    const size_t size = sizes_[level];
    const LongFft<T>& fft = *ffts_[level];
    std::vector<Spectra<T>>&blocks = work_->blocks, &sums = work_->sums;
    const size_t earlier = Blocks(end - begin, size) - 1;
    TransformBlocks<T>(fft, Rows(x_, begin, end), size, size, earlier, &blocks);
    const size_t from_block =
        std::max<size_t>(1, (std::max(first_, begin) - begin) / size);
    fft.Convolve(work_->filters[level], blocks, from_block, earlier, &sums);
    for (size_t i = from_block; i <= earlier; ++i) {
      const size_t b = begin + i * size, from = std::max(b, first_);
      // Of the 3 size - 1 rows of the product those wrap around that no one
      // asks for: the last ones, onto the first.
      fft.AddInverse(sums[i - from_block], size + from - b,
                     Rows(y_, from - first_, std::min(b + size, end) - first_));
    }
  }

  static MatrixView<T> Rows(MatrixView<T> x, size_t begin, size_t end) {
    return x.Rows(begin, end - begin);
  }

  const std::vector<size_t> sizes_;
  const size_t rows_, first_;
  std::vector<std::unique_ptr<LongFft<T>>> ffts_;
  Workspace<T>* const work_;
  MatrixView<const T> from_;
  MatrixView<T> taps_, x_, y_;
};

template <typename T>
void Convolve(MatrixView<const T> h, size_t leaf, size_t first,
              const std::vector<ConvSequence<T>>& sequences) {
  if (sequences.empty()) return;
  const ScopedFlushDenormals flush;
  const size_t rows = sequences[0].x.rows;
  // A few outputs, as when a token is decoded, are not worth a transform.
  if (rows - first <= leaf) {
    for (const ConvSequence<T>& s : sequences) LongConv(s.x, h, first, s.y);
    return;
  }
  PanelConv<T> conv(rows, leaf, first);
  for (size_t c = 0; c < h.cols; c += kPanel<T>) {
    const size_t count = std::min(kPanel<T>, h.cols - c);
    conv.SetFilter(Columns(h, c, count));
    for (const ConvSequence<T>& s : sequences) {
      conv.Add(Columns(s.x, c, count), Columns(s.y, c, count));
    }
  }
}

// Rows of the blocks that gradients are taken in: so few blocks as kFan at
// most, of a power of four, whose transforms are the fastest.
size_t GradientBlock(size_t rows) {
  size_t size = 1;
  while (size * kFan < rows) size *= 4;
  return size;
}

// Gradients of a panel's channels. All that is by d_y is backwards.
template <typename T>
class PanelGradient {
 public:
  // Of so many sequences.
  PanelGradient(size_t rows, size_t direct, size_t sequences)
      : rows_(rows),
        size_(GradientBlock(rows)),
        alone_(sequences == 1),
        work_(ThreadWorkspace<T>()) {
    if (rows > direct) fft_ = std::make_unique<LongFft<T>>(FftSize(2 * size_));
    if (work_->filters.size() < 2) work_->filters.resize(2);
  }

  void SetFilter(MatrixView<const T> h) {
    taps_ = Panel(&work_->h, h.cols);
    d_y_ = Panel(&work_->y, h.cols);
    result_ = Panel(&work_->result, h.cols);
    sum_ = Panel(&work_->sum, h.cols);
    Copy(h, 0, rows_, taps_);
    Transform(taps_, &work_->filters[0]);
    if (!alone_) Clear(sum_);
  }

  // The next sequence.
  void Add(MatrixView<const T> from, MatrixView<const T> d_y,
           MatrixView<T> d_x) {
    Reverse(d_y, d_y_);
    Transform(d_y_, &work_->blocks);
    ConvolveWith(taps_, work_->filters[0]);
    Reverse(MatrixView<const T>(result_), d_x);
    const MatrixView<T> x = Panel(&work_->x, from.cols);
    Copy(from, 0, rows_, x);
    Transform(x, &work_->filters[1]);
    ConvolveWith(x, work_->filters[1]);
    for (size_t t = 0; t < rows_ && !alone_; ++t) {
      for (size_t c = 0; c < x.cols; ++c) sum_(t, c) += result_(t, c);
    }
  }

  // After the last one.
  void Filter(MatrixView<T> d_h) const {
    if (alone_) return Reverse(MatrixView<const T>(result_), d_h);
    for (size_t t = 0; t < rows_; ++t) {
      for (size_t c = 0; c < d_h.cols; ++c) {
        d_h(t, c) = static_cast<T>(sum_(rows_ - 1 - t, c));
      }
    }
  }

 private:
  template <typename E>
  MatrixView<E> Panel(OwnMatrix<E>* matrix, size_t columns) const {
    return Columns(matrix->Resize(rows_, kPanel<T>), 0, columns);
  }

  void Transform(MatrixView<const T> x, std::vector<Spectra<T>>* to) const {
    if (fft_ == nullptr) return;
    TransformBlocks(*fft_, x, size_, size_, Blocks(rows_, size_), to);
  }

  // result_ = d_y_ convolved with x, which have these transforms.
  void ConvolveWith(MatrixView<const T> x,
                    const std::vector<Spectra<T>>& transforms) const {
    Clear(result_);
    if (fft_ == nullptr) return LongConv(d_y_, x, 0, result_);
    const size_t blocks = Blocks(rows_, size_);
    fft_->Convolve(transforms, work_->blocks, 1, blocks, &work_->sums);
    for (size_t i = 0; i < blocks; ++i) {
      const size_t begin = i * size_;
      fft_->AddInverse(work_->sums[i], 0,
                       result_.Rows(begin, std::min(2 * size_, rows_ - begin)));
    }
  }

  const size_t rows_, size_;
  const bool alone_;
  std::unique_ptr<LongFft<T>> fft_;
  Workspace<T>* const work_;
  MatrixView<T> taps_, d_y_, result_;
  MatrixView<double> sum_;
};

template <typename T>
void Gradient(MatrixView<const T> h, size_t direct,
              const std::vector<GradientSequence<T>>& sequences,
              MatrixView<T> d_h) {
  const ScopedFlushDenormals flush;
  PanelGradient<T> gradient(h.rows, direct, sequences.size());
  for (size_t c = 0; c < h.cols; c += kPanel<T>) {
    const size_t count = std::min(kPanel<T>, h.cols - c);
    gradient.SetFilter(Columns(h, c, count));
    for (const GradientSequence<T>& s : sequences) {
      gradient.Add(Columns(s.x, c, count), Columns(s.d_y, c, count),
                   Columns(s.d_x, c, count));
    }
    gradient.Filter(Columns(d_h, c, count));
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

void LongConvGradient(MatrixView<const float> h, size_t direct,
                      const std::vector<GradientSequence<float>>& sequences,
                      MatrixView<float> d_h) {
  Gradient(h, direct, sequences, d_h);
}
void LongConvGradient(MatrixView<const double> h, size_t direct,
                      const std::vector<GradientSequence<double>>& sequences,
                      MatrixView<double> d_h) {
  Gradient(h, direct, sequences, d_h);
}

double CausalFftConvFlops(size_t rows, size_t leaf, size_t sequences) {
  if (rows <= leaf) return sequences * DirectFlops(rows);
  const double leaves = Blocks(rows, leaf) - 1;
  double of_filter = 0;
  double of_sequence =
      leaves * DirectFlops(leaf) + DirectFlops(rows - leaves * leaf);
  for (const size_t size : LevelBlocks(rows, leaf)) {
    const double transform = FftFlops(FftSize(2 * size));
    of_filter += (std::min(Blocks(rows, size), kFan) - 1) * transform;
    for (size_t begin = 0; begin < rows; begin += size * kFan) {
      const double earlier =
          Blocks(std::min(size * kFan, rows - begin), size) - 1;
      // Transforms there and back, and four multiply-adds for each bin of each
      // pair of blocks.
      of_sequence += 2 * earlier * transform +
                     earlier * (earlier + 1) / 2 * 4 * FftSize(2 * size);
    }
  }
  return of_filter + sequences * of_sequence;
}

double LongConvGradientFlops(size_t rows, size_t direct, size_t sequences) {
  if (rows <= direct) return sequences * 2 * DirectFlops(rows);
  const double block = GradientBlock(rows), size = FftSize(2 * block);
  const double blocks = Blocks(rows, block),
               transforms = blocks * FftFlops(size);
  // The filter there; of a sequence two there, two back, and products.
  return transforms + sequences * (4 * transforms +
                                   2 * blocks * (blocks + 1) / 2 * 4 * size);
}

}  // namespace mneme::kernels
