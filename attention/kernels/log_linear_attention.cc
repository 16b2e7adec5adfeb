// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/log_linear_attention.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/kernels/fenwick.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/log_linear_chunk.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/vector_math.h"

namespace mneme::kernels {
namespace {

template <typename T>
class ChunkBackward : public LogLinearChunk<T> {
  using Base = LogLinearChunk<T>;

 public:
  using typename Base::Buckets;
  using typename Base::ConstView;
  using typename Base::View;
  using ConstBuckets = std::vector<const T*>;
  using Base::Base;

  // Gradients of Write and Read, added to `gradients`. d_buckets holds those by
  // the buckets after the chunk on entry, before it on return; `last` says that
  // nothing depends on the former. d_o is [length, heads * value_dim].
  void Backward(const ConstBuckets& buckets, ConstView d_o, bool last,
                const Buckets& d_buckets, const LogLinearArrays<T>& gradients) {
    d_o = d_o.Rows(first_, count_);
    d_ = {RowsOf(gradients.q), RowsOf(gradients.k), RowsOf(gradients.v),
          RowsOf(gradients.g), RowsOf(gradients.lambda)};
    d_sum_.assign(count_ * heads_, 0);
    if (last) {
      for (const Bucket& bucket : fenwick_.Before(position_)) {
        const View d = Matrix(d_buckets, bucket.level);
        std::fill_n(d.data, d.rows * d.cols, T{0});
      }
    } else {
      WriteBackward(buckets, d_buckets);
    }
    ReadBackward(buckets, d_o, d_buckets);
    WithinBackward(d_o);
    // G_t is a sum that contains the g of all tokens from the first to t.
    for (size_t h = 0; h < heads_ && d_.g.data != nullptr; ++h) {
      double sum = 0;
      for (size_t t = count_; t-- > 0;) {
        sum += d_sum_[t * heads_ + h];
        d_.g(t, h) += static_cast<T>(sum);
      }
    }
  }

 private:
  using Base::AddProduct;
  using Base::count_;
  using Base::Fade;
  using Base::FadedValues;
  using Base::FadeOfChunk;
  using Base::fenwick_;
  using Base::first_;
  using Base::ForEach;
  using Base::ForEachLevel;
  using Base::ForEachPanel;
  using Base::Head;
  using Base::heads_;
  using Base::in_;
  using Base::kNo;
  using Base::kYes;
  using Base::levels_;
  using Base::Matrix;
  using Base::New;
  using Base::position_;
  using Base::Product;
  using Base::RowDecay;
  using Base::Rows;
  using Base::Scratch;
  using Base::since_start_;
  using Base::until_end_;
  using Base::value_dim_;
  using Base::values_;
  using Base::WeightOf;
  using Base::weights_;

  View RowsOf(View x) const {
    return x.data == nullptr ? x : x.Rows(first_, count_);
  }

  void WriteBackward(const ConstBuckets& buckets, const Buckets& d_buckets) {
    const int64_t next = position_ + count_;
    const int meet = fenwick_.Meeting(position_, next);
    double* const at_end = &d_sum_[(count_ - 1) * heads_];
    const View faded = FadedValues();
    const View d_faded = Scratch(&d_values_, count_, faded.cols);
    for (const Bucket& bucket : New(next, meet)) {
      const ConstView d = Matrix(d_buckets, bucket.level);
      Product(Rows(in_.k, bucket), d, Rows(d_faded, bucket));
      if (d_.k.data != nullptr) {
        AddProduct(kNo, kYes, Rows(faded, bucket), d, Rows(d_.k, bucket));
      }
    }
    ForEach([&](size_t t, size_t h) {
      const T* from = Head(d_faded, h).row(t);
      const double along = Dot(from, Head(faded, h).row(t), value_dim_);
      at_end[h] += along;
      d_sum_[t * heads_ + h] -= along;
      if (d_.v.data == nullptr) return;
      Axpy(until_end_[t * heads_ + h], from, Head(d_.v, h).row(t), value_dim_);
    });
    // What is left of the older buckets, and where it went to.
    const std::vector<T> fade = FadeOfChunk();
    const std::vector<Bucket> before = fenwick_.Before(position_);
    for (const Bucket& bucket : before) {
      const ConstView s = Matrix(buckets, bucket.level);
      const ConstView d =
          Matrix(d_buckets, fenwick_.Moved(bucket.level, position_, next));
      for (size_t h = 0; h < heads_; ++h) {
        double along = 0;
        for (size_t r = 0; r < s.rows; ++r) {
          along += Dot(Head(s, h).row(r), Head(d, h).row(r), value_dim_);
        }
        at_end[h] += fade[h * value_dim_] * along;
      }
    }
    for (const Bucket& bucket : before) {
      if (bucket.level < meet) {
        Fade(fade, Matrix(d_buckets, meet), Matrix(d_buckets, bucket.level));
      }
    }
    for (const Bucket& bucket : before) {
      if (bucket.level >= meet) {
        const View d = Matrix(d_buckets, bucket.level);
        Fade(fade, d, d);
      }
    }
  }

  void ReadBackward(const ConstBuckets& buckets, ConstView d_o,
                    const Buckets& d_buckets) {
    for (const Bucket& bucket : fenwick_.Before(position_)) {
      const ConstView s = Matrix(buckets, bucket.level);
      const View y = Scratch(&values_, count_, s.cols);
      const View d_y = Scratch(&d_values_, count_, s.cols);
      Product(in_.q, s, y);
      std::fill_n(d_y.data, count_ * s.cols, T{0});
      ForEach([&](size_t t, size_t h) {
        const size_t at = h * levels_ + WeightOf(bucket, t);
        const T fade = since_start_[t * heads_ + h];
        const T weight = in_.lambda(t, at) * fade;
        const T along = Dot(Head(d_o, h).row(t), Head(y, h).row(t), value_dim_);
        if (d_.lambda.data != nullptr) d_.lambda(t, at) += fade * along;
        d_sum_[t * heads_ + h] += weight * along;
        Axpy(weight, Head(d_o, h).row(t), Head(d_y, h).row(t), value_dim_);
      });
      AddProduct(kNo, kYes, d_y, s, d_.q);
      AddProduct(kYes, kNo, in_.q, d_y, Matrix(d_buckets, bucket.level));
    }
  }

  void WithinBackward(ConstView d_o) {
    ForEachPanel([&](size_t begin, size_t rows, ConstView scores) {
      const size_t end = begin + rows;
      const View weights = Scratch(&weights_, rows, end);
      const View d_weights = Scratch(&d_weights_, rows, end);
      const View d_scores = Scratch(&d_scores_, rows, end);
      std::fill_n(d_scores.data, rows * end, T{0});
      std::fill_n(weights.data, rows * end, T{0});
      for (size_t h = 0; h < heads_; ++h) {
        const ConstView d_head = Head(d_o, h).Rows(begin, rows);
        Gemm(kNo, kYes, d_head, Head(in_.v, h).Rows(0, end), d_weights);
        for (size_t r = 0; r < rows; ++r) {
          WeighBackward(begin + r, h, scores.row(r), d_weights.row(r),
                        weights.row(r), d_scores.row(r));
        }
        if (d_.v.data != nullptr) {
          AddProduct(kYes, kNo, weights, d_head, Head(d_.v, h).Rows(0, end));
        }
      }
      if (d_.q.data != nullptr) {
        AddProduct(kNo, kNo, d_scores, in_.k.Rows(0, end),
                   d_.q.Rows(begin, rows));
      }
      if (d_.k.data != nullptr) {
        AddProduct(kYes, kNo, d_scores, in_.q.Rows(begin, rows),
                   d_.k.Rows(0, end));
      }
    });
  }

  // Gradient of Weigh; computes the weights once more. The sums that end in g
  // are in double: what a token adds at its own place and takes away at an
  // earlier one must cancel for tokens outside.
  void WeighBackward(size_t t, size_t h, const T* scores, const T* d_weights,
                     T* weights, T* d_scores) {
    const T* decay = RowDecay(t, h);
    double at_t = 0;
    ForEachLevel(t, [&](int64_t level, size_t begin, size_t end) {
      const T lambda = in_.lambda(t, h * levels_ + level);
      T d_lambda = 0;
      for (size_t j = begin; j < end; ++j) {
        const T faded = decay[j] * scores[j];
        const T along = d_weights[j] * faded;
        weights[j] = lambda * faded;
        d_scores[j] += d_weights[j] * (lambda * decay[j]);
        d_lambda += along;
        const double through = static_cast<double>(lambda * along);
        at_t += through;
        d_sum_[j * heads_ + h] -= through;
      }
      if (d_.lambda.data != nullptr) {
        d_.lambda(t, h * levels_ + level) += d_lambda;
      }
    });
    d_sum_[t * heads_ + h] += at_t;
  }

  LogLinearArrays<T> d_;       // of the chunk
  std::vector<double> d_sum_;  // by G: [token][head]
  std::vector<T> d_scores_, d_weights_, d_values_;
};

// Matrices for the buckets before all positions up to length.
template <typename T>
std::vector<T*> NewBuckets(const LogLinear<T>& a, const Fenwick& fenwick,
                           std::vector<T>* memory) {
  const size_t size = a.in.k.cols * a.in.v.cols;
  const size_t levels = std::min<size_t>(
      fenwick.top() + 1, Fenwick::LevelsFor(static_cast<int64_t>(a.in.v.rows)));
  memory->resize(levels * size);
  std::vector<T*> buckets;
  for (size_t l = 0; l < levels; ++l) buckets.push_back(&(*memory)[l * size]);
  return buckets;
}

template <typename T>
void Forward(const LogLinear<T>& a, int64_t position, T* const* buckets,
             MatrixView<T> o, T* saved) {
  const size_t length = a.in.v.rows, size = a.in.k.cols * a.in.v.cols;
  LogLinearChunk<T> chunk(a);
  const Fenwick& fenwick = chunk.fenwick();
  std::vector<T> memory;
  std::vector<T*> all;
  if (buckets == nullptr) {
    all = NewBuckets(a, fenwick, &memory);
  } else {
    all.assign(buckets, buckets + fenwick.top() + 1);
  }
  for (size_t begin = 0; begin < length; begin += a.chunk) {
    const size_t count = std::min(a.chunk, length - begin);
    if (saved != nullptr) {
      for (const Bucket& bucket : fenwick.Before(begin)) {
        saved = std::copy_n(all[bucket.level], size, saved);
      }
    }
    chunk.Set(position + begin, begin, count);
    chunk.Read(all, o);
    if (buckets != nullptr || begin + count < length) chunk.Write(all);
  }
}

template <typename T>
void Backward(const LogLinear<T>& a, const T* saved, MatrixView<const T> d_o,
              const LogLinearArrays<T>& gradients) {
  const size_t length = a.in.v.rows, size = a.in.k.cols * a.in.v.cols;
  ChunkBackward<T> chunk(a);
  const Fenwick& fenwick = chunk.fenwick();
  std::vector<T> memory;
  const std::vector<T*> d_buckets = NewBuckets(a, fenwick, &memory);
  std::vector<const T*> buckets(fenwick.top() + 1);
  saved +=
      LogLinearSavedSize(length, a.chunk, a.in.lambda.cols / a.heads, size);
  for (size_t i = (length + a.chunk - 1) / a.chunk; i-- > 0;) {
    const size_t begin = i * a.chunk;
    const size_t count = std::min(a.chunk, length - begin);
    const std::vector<Bucket> before = fenwick.Before(begin);
    saved -= before.size() * size;
    for (size_t j = 0; j < before.size(); ++j) {
      buckets[before[j].level] = saved + j * size;
    }
    chunk.Set(begin, begin, count);
    chunk.Backward(buckets, d_o, begin + count == length, d_buckets, gradients);
  }
}

}  // namespace

size_t LogLinearSavedSize(size_t length, size_t chunk, size_t levels,
                          size_t matrix_size) {
  const Fenwick fenwick(levels);
  size_t matrices = 0;
  for (size_t begin = 0; begin < length; begin += chunk) {
    matrices += fenwick.Before(begin).size();
  }
  return matrices * matrix_size;
}

void LogLinearForward(const LogLinear<float>& a, int64_t position,
                      float* const* buckets, MatrixView<float> o,
                      float* saved) {
  Forward(a, position, buckets, o, saved);
}
void LogLinearForward(const LogLinear<double>& a, int64_t position,
                      double* const* buckets, MatrixView<double> o,
                      double* saved) {
  Forward(a, position, buckets, o, saved);
}
void LogLinearBackward(const LogLinear<float>& a, const float* saved,
                       MatrixView<const float> d_o,
                       const LogLinearArrays<float>& gradients) {
  Backward(a, saved, d_o, gradients);
}
void LogLinearBackward(const LogLinear<double>& a, const double* saved,
                       MatrixView<const double> d_o,
                       const LogLinearArrays<double>& gradients) {
  Backward(a, saved, d_o, gradients);
}

}  // namespace mneme::kernels
