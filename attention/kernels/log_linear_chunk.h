// SPDX-License-Identifier: Apache-2.0
//
// A chunk of log-linear attention (log_linear_attention.h): its forward, and
// what its backward needs too.

#ifndef MNEME_ATTENTION_KERNELS_LOG_LINEAR_CHUNK_H_
#define MNEME_ATTENTION_KERNELS_LOG_LINEAR_CHUNK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/kernels/fenwick.h"
#include "attention/kernels/gemm.h"
#include "attention/kernels/log_linear_attention.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/vector_math.h"

namespace mneme::kernels {

// Takes up one chunk after the other. The matrices of all heads stand side by
// side, [key_dim, heads * value_dim]: one product serves all heads.
template <typename T>
class LogLinearChunk {
 public:
  using View = MatrixView<T>;
  using ConstView = MatrixView<const T>;
  // The matrix of each level's bucket, by level.
  using Buckets = std::vector<T*>;

  explicit LogLinearChunk(const LogLinear<T>& a)
      : all_(a.in),
        heads_(a.heads),
        value_dim_(a.in.v.cols / a.heads),
        levels_(a.in.lambda.cols / a.heads),
        fenwick_(levels_) {}

  const Fenwick& fenwick() const { return fenwick_; }

  // Takes up the tokens that are rows [first, first + count) and stand at
  // `position` and after.
  void Set(int64_t position, size_t first, size_t count) {
    position_ = position;
    first_ = first;
    count_ = count;
    in_ = {all_.q.Rows(first, count), all_.k.Rows(first, count),
           all_.v.Rows(first, count), all_.g.Rows(first, count),
           all_.lambda.Rows(first, count)};
    step_.resize(count * heads_);
    for (size_t t = 0; t < count; ++t) {
      Map(Unary::kExp, in_.g.row(t), &step_[t * heads_], heads_);
    }
    since_start_ = step_;
    until_end_.assign(count * heads_, T{1});
    for (size_t i = heads_; i < since_start_.size(); ++i) {
      since_start_[i] *= since_start_[i - heads_];
    }
    for (size_t i = until_end_.size() - heads_; i-- > 0;) {
      until_end_[i] = until_end_[i + heads_] * step_[i + heads_];
    }
    row_decay_.assign(heads_ * count, T{0});
  }

  // Overwrites the chunk's rows of o [length, heads * value_dim].
  void Read(const Buckets& buckets, View o) {
    o = o.Rows(first_, count_);
    for (size_t t = 0; t < count_; ++t) std::fill_n(o.row(t), o.cols, T{0});
    for (const Bucket& bucket : fenwick_.Before(position_)) {
      const View y = Scratch(&values_, count_, o.cols);
      Product(in_.q, Matrix(buckets, bucket.level), y);
      ForEach([&](size_t t, size_t h) {
        const T weight = in_.lambda(t, h * levels_ + WeightOf(bucket, t)) *
                         since_start_[t * heads_ + h];
        Axpy(weight, Head(y, h).row(t), Head(o, h).row(t), value_dim_);
      });
    }
    ForEachPanel([&](size_t begin, size_t rows, ConstView scores) {
      const View weights = Scratch(&weights_, rows, begin + rows);
      for (size_t h = 0; h < heads_; ++h) {
        for (size_t r = 0; r < rows; ++r) {
          Weigh(begin + r, h, scores.row(r), weights.row(r));
        }
        const View to = Head(o, h).Rows(begin, rows);
        const ConstView v = Head(in_.v, h);
        AddProduct(kNo, kNo, Columns(weights, 0, begin), v.Rows(0, begin), to);
        AddTriangle(Columns(weights, begin, rows), v.Rows(begin, rows), to);
      }
    });
  }

  // Moves the buckets on to those before the position after the chunk.
  void Write(const Buckets& buckets) {
    const int64_t next = position_ + count_;
    const int meet = fenwick_.Meeting(position_, next);
    const std::vector<Bucket> before = fenwick_.Before(position_);
    const std::vector<T> fade = FadeOfChunk();
    bool there = false;
    for (const Bucket& bucket : before) {
      if (bucket.level < meet) continue;
      there = there || bucket.level == meet;
      Fade(fade, Matrix(buckets, bucket.level), Matrix(buckets, bucket.level));
    }
    const View met = Matrix(buckets, meet);
    if (!there) std::fill_n(met.data, met.rows * met.cols, T{0});
    for (const Bucket& bucket : before) {
      if (bucket.level >= meet) continue;
      const View from = Matrix(buckets, bucket.level);
      for (size_t r = 0; r < met.rows; ++r) {
        MultiplyAdd(from.row(r), fade.data(), met.row(r), met.cols);
      }
    }
    const View v = FadedValues();
    for (const Bucket& bucket : New(next, meet)) {
      GemmEpilogue<T> epilogue;
      epilogue.beta = bucket.level == meet ? 1 : 0;
      Gemm(kYes, kNo, Rows(in_.k, bucket), Rows(ConstView(v), bucket),
           Matrix(buckets, bucket.level), epilogue);
    }
  }

 protected:
  static constexpr auto kNo = Transpose::kNo;
  static constexpr auto kYes = Transpose::kYes;
  // Rows of scores at a time: bounds memory, and work on the masked half.
  static constexpr size_t kPanel = 64;

  // --- Views ---
  static View Scratch(std::vector<T>* memory, size_t rows, size_t cols) {
    if (memory->size() < rows * cols) memory->resize(rows * cols);
    return {memory->data(), rows, cols};
  }
  template <typename E>
  MatrixView<E> Matrix(const std::vector<E*>& buckets, int level) const {
    return {buckets[level], in_.k.cols, in_.v.cols};
  }
  template <typename E>
  static MatrixView<E> Columns(MatrixView<E> x, size_t first, size_t count) {
    return {x.data + first, x.rows, count, x.stride};
  }
  template <typename E>
  MatrixView<E> Head(MatrixView<E> x, size_t h) const {
    return Columns(x, h * value_dim_, value_dim_);
  }
  // The chunk's rows in a bucket.
  template <typename E>
  MatrixView<E> Rows(MatrixView<E> x, const Bucket& bucket) const {
    return x.Rows(bucket.begin - position_, bucket.end - bucket.begin);
  }

  // --- Products; nothing is added where c has no data ---
  static void Product(ConstView a, ConstView b, View c) {
    Gemm(kNo, kNo, a, b, c);
  }
  static void AddProduct(Transpose ta, Transpose tb, ConstView a, ConstView b,
                         View c) {
    if (c.data == nullptr) return;
    GemmEpilogue<T> add;
    add.beta = 1;
    Gemm(ta, tb, a, b, c, add);
  }
  // o += a v for a lower triangular a. What is above the diagonal is not
  // touched: a token's output must not depend even on the NaN of a later one.
  static void AddTriangle(ConstView a, ConstView v, View o) {
    constexpr size_t kFew = 8;
    if (a.rows <= kFew) {
      for (size_t r = 0; r < a.rows; ++r) {
        for (size_t c = 0; c <= r; ++c) {
          Axpy(a(r, c), v.row(c), o.row(r), v.cols);
        }
      }
      return;
    }
    const size_t half = a.rows / 2, rest = a.rows - half;
    AddTriangle(Columns(a.Rows(0, half), 0, half), v.Rows(0, half),
                o.Rows(0, half));
    AddProduct(kNo, kNo, Columns(a.Rows(half, rest), 0, half), v.Rows(0, half),
               o.Rows(half, rest));
    AddTriangle(Columns(a.Rows(half, rest), half, rest), v.Rows(half, rest),
                o.Rows(half, rest));
  }

  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (size_t t = 0; t < count_; ++t) {
      for (size_t h = 0; h < heads_; ++h) visit(t, h);
    }
  }

  // --- Levels ---
  // The weight that token t reads a bucket before the chunk with.
  int64_t WeightOf(const Bucket& bucket, size_t t) const {
    return fenwick_.Weight(
        fenwick_.Moved(bucket.level, position_, position_ + t));
  }
  // What the tokens of the chunk bring to the buckets before `next`, of levels
  // up to the one where the older ones meet.
  std::vector<Bucket> New(int64_t next, int meet) const {
    std::vector<Bucket> buckets;
    for (Bucket bucket : fenwick_.Before(next)) {
      if (bucket.level > meet) break;
      bucket.begin = std::max(bucket.begin, position_);
      buckets.push_back(bucket);
    }
    return buckets;
  }
  // visit(weight, begin, end) for all tokens of the chunk that token t sees.
  template <typename Visit>
  void ForEachLevel(size_t t, const Visit& visit) const {
    visit(int64_t{0}, t, t + 1);
    // For every token and head: no list of them.
    fenwick_.ForEachBefore(position_ + t, [&](const Bucket& bucket) {
      if (bucket.end <= position_) return;
      visit(fenwick_.Weight(bucket.level),
            std::max(bucket.begin, position_) - position_,
            bucket.end - position_);
    });
  }

  // --- Decays ---
  // e^{G_t - G_j} for j <= t. To be called for t = 0, 1, ... in turn.
  const T* RowDecay(size_t t, size_t h) {
    T* const row = &row_decay_[h * count_];
    const T step = step_[t * heads_ + h];
    for (size_t j = 0; j < t; ++j) row[j] *= step;
    row[t] = 1;
    return row;
  }
  // What the chunk leaves of older memories, for each column of a matrix.
  std::vector<T> FadeOfChunk() const {
    std::vector<T> fade;
    for (size_t h = 0; h < heads_; ++h) {
      fade.insert(fade.end(), value_dim_,
                  since_start_[(count_ - 1) * heads_ + h]);
    }
    return fade;
  }
  static void Fade(const std::vector<T>& fade, View from, View to) {
    for (size_t r = 0; r < to.rows; ++r) {
      Multiply(from.row(r), fade.data(), to.row(r), to.cols);
    }
  }
  // The chunk's values as they are at its end.
  View FadedValues() {
    const View v = Scratch(&values_, count_, in_.v.cols);
    std::fill_n(v.data, count_ * v.cols, T{0});
    ForEach([&](size_t t, size_t h) {
      Axpy(until_end_[t * heads_ + h], Head(in_.v, h).row(t), Head(v, h).row(t),
           value_dim_);
    });
    return v;
  }

  // --- Within the chunk ---
  // body(begin, rows, scores) for panels of rows: q_t . k_j for all tokens j up
  // to the panel's last.
  template <typename Body>
  void ForEachPanel(const Body& body) {
    for (size_t begin = 0; begin < count_; begin += kPanel) {
      const size_t rows = std::min(kPanel, count_ - begin);
      const View scores = Scratch(&scores_, rows, begin + rows);
      Gemm(kNo, kYes, in_.q.Rows(begin, rows), in_.k.Rows(0, begin + rows),
           scores);
      body(begin, rows, scores);
    }
  }

  // weights[j] = lambda * decay * scores[j] for the tokens j <= t of the chunk.
  void Weigh(size_t t, size_t h, const T* scores, T* weights) {
    const T* decay = RowDecay(t, h);
    const T* lambda = in_.lambda.row(t) + h * levels_;
    ForEachLevel(t, [&](int64_t level, size_t begin, size_t end) {
      std::fill(weights + begin, weights + end, lambda[level]);
    });
    Multiply(weights, decay, weights, t + 1);
    Multiply(weights, scores, weights, t + 1);
  }

  const LogLinearArrays<const T> all_;
  const size_t heads_, value_dim_, levels_;
  const Fenwick fenwick_;

  // The chunk.
  int64_t position_ = 0;
  size_t first_ = 0, count_ = 0;
  LogLinearArrays<const T> in_;
  // e^{g_t}, e^{G_t} and e^{G_end - G_t}: [token][head].
  std::vector<T> step_, since_start_, until_end_;
  std::vector<T> row_decay_;  // [head][token]
  std::vector<T> scores_, weights_, values_;
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_LOG_LINEAR_CHUNK_H_
