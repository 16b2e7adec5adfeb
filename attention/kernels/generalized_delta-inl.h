// SPDX-License-Identifier: Apache-2.0
//
// One block of the generalised delta rule (generalized_delta.h) in WY form:
// what the forward and the backward's recomputation share.

#if defined(MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_INL_H_
#undef MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_INL_H_
#endif

#include <array>
#include <cstddef>
#include <type_traits>

#include "attention/kernels/block_decay-inl.h"
#include "attention/kernels/generalized_delta.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

static_assert(kBlock == kGeneralizedDeltaBlock);

// Use: Start, then Substitute, then Advance. Matrices have a row per token, or
// two halves of one each: what reads the state (a, then q), what is written
// along (b, then k), and what is written (u, then v).
template <typename T>
class GeneralizedBlock {
 public:
  explicit GeneralizedBlock(const GeneralizedDelta<T>& x)
      : x_(x),
        key_dim_(x.q.cols),
        value_dim_(x.v.cols),
        decay_(x.log_decay, key_dim_) {}

  template <class Take>
  void LayOut(const Take& take) {
    const auto matrix = [&](size_t rows, size_t cols) {
      return MatrixView<T>(take(rows * cols), rows, cols);
    };
    decay_.LayOut(take);
    tokens_ = matrix(4 * kBlock, key_dim_);
    readers_ = matrix(2 * kBlock, key_dim_);
    writers_ = matrix(2 * kBlock, key_dim_);
    reads_ = matrix(2 * kBlock, value_dim_);
    values_ = matrix(2 * kBlock, value_dim_);
    scores_ = matrix(2 * kBlock, 2 * kBlock);
  }

  void Start(size_t begin, size_t rows, MatrixView<const T> state) {
    begin_ = begin;
    rows_ = rows;
    decay_.Start(begin, rows);
    // Copies lie next to each other, and are written before what is made of
    // them, so that many loads are under way at once.
    MatrixView<T> tokens[4];
    for (size_t n = 0; n < 4; ++n) {
      tokens[n] = tokens_.Rows(n * kBlock, rows);
      const MatrixView<const T>& from = *Inputs()[n];
      for (size_t i = 0; i < rows; ++i) {
        ScaleEntries(from.row(begin + i), T{1}, key_dim_, tokens[n].row(i));
        if (begin + rows + i < from.rows) {
          PrefetchRow(from.row(begin + rows + i), key_dim_);
        }
      }
    }
    for (size_t i = 0; i < rows; ++i) {
      const auto copy = [&](size_t n, const T* decay, T* y) HWY_ATTR {
        DecayToken(tokens[n].row(i), T{1}, decay, key_dim_, y);
      };
      copy(0, decay_.before(i), readers_.row(i));
      copy(1, decay_.from_start(i), readers_.row(rows + i));
      copy(2, decay_.to_end(i), writers_.row(i));
      copy(3, decay_.to_end(i), writers_.row(rows + i));
      ScaleEntries(v(i), T{1}, value_dim_, values_.row(rows + i));
      if (begin + rows + i < x_.v.rows) {
        PrefetchRow(x_.v.row(begin + rows + i), value_dim_);
        PrefetchRow(x_.log_decay.row(begin + rows + i), key_dim_);
      }
    }
    Product<T>(Transpose::kNo, Transpose::kNo, readers(), state,
               reads_.Rows(0, 2 * rows));
    BlockScores<T, 2, true>{
        tokens[0], tokens[1], {tokens[2], tokens[3]}, scores_}
        .Compute(decay_);
  }

  // u and, unless null, o.
  void Substitute(MatrixView<T> o) {
    if (o.data == nullptr) {
      SubstituteRows<false>(o);
    } else {
      SubstituteRows<true>(o);
    }
  }

  // The state behind the block; state is the one before it on entry.
  void Advance(MatrixView<T> state) const {
    ScaleStateRows(decay_.total(), state);
    Product<T>(Transpose::kYes, Transpose::kNo, writers(), values(), state,
               T{1});
  }

  size_t rows() const { return rows_; }
  const T* q(size_t i) const { return x_.q.row(begin_ + i); }
  const T* k(size_t i) const { return x_.k.row(begin_ + i); }
  const T* v(size_t i) const { return x_.v.row(begin_ + i); }
  const T* a(size_t i) const { return x_.a.row(begin_ + i); }
  const T* b(size_t i) const { return x_.b.row(begin_ + i); }
  const BlockDecay<T>& decay() const { return decay_; }
  // a_i d_i^- and q_i d_i; b_j d_j* and k_j d_j*; u_j and v_j.
  MatrixView<const T> readers() const { return readers_.Rows(0, 2 * rows_); }
  MatrixView<const T> writers() const { return writers_.Rows(0, 2 * rows_); }
  MatrixView<const T> values() const { return values_.Rows(0, 2 * rows_); }
  // (i, j): a_i . b_j d_{i-1,j} and a_i . k_j d_{i-1,j} for j < i, q_i . b_j
  // d_ij and q_i . k_j d_ij for j <= i. Entries further right are unspecified.
  MatrixView<T> a_b() const { return Scores(0, 0); }
  MatrixView<T> a_k() const { return Scores(0, kBlock); }
  MatrixView<T> q_b() const { return Scores(rows_, 0); }
  MatrixView<T> q_k() const { return Scores(rows_, kBlock); }

 private:
  MatrixView<T> Scores(size_t row, size_t col) const {
    return {scores_.row(row) + col, rows_, kBlock, scores_.stride};
  }

  // What reads the state, then what is written along.
  std::array<const MatrixView<const T>*, 4> Inputs() const {
    return {&x_.a, &x_.q, &x_.b, &x_.k};
  }

  // The terms in v wait for nothing: they are summed apart from those in u.
  // Unrolled, so that first v and then u stay in registers.
  template <bool kOutput>
  HWY_FLATTEN HWY_NOINLINE void SubstituteRows(MatrixView<T> o) {
    const hn::ScalableTag<T> d;
    using V = hn::VFromD<decltype(d)>;
    const size_t rows = rows_;
    const MatrixView<T> a_b = this->a_b(), a_k = this->a_k();
    const MatrixView<T> q_b = this->q_b(), q_k = this->q_k();
    ForEachVector(d, value_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      V x[kBlock];
      // sum += scores x of the first tokens.
      const auto add = [&](auto count, const T* scores, V sum) HWY_ATTR {
        Unroll<count>([&](auto j) HWY_ATTR {
          sum = hn::MulAdd(hn::Set(d, scores[j]), x[j], sum);
        });
        return sum;
      };
      Unroll<kBlock>([&](auto i) HWY_ATTR {
        x[i] = hn::Zero(d);
        if (i < rows) x[i] = lanes.Load(values_.row(rows + i) + c);
      });
      Unroll<kBlock>([&](auto i) HWY_ATTR {
        if (i >= rows) return;
        T *to_u = reads_.row(i) + c, *to_o = reads_.row(rows + i) + c;
        lanes.Store(add(i, a_k.row(i), lanes.Load(to_u)), to_u);
        if constexpr (kOutput) {
          const auto next = std::integral_constant<size_t, i + 1>();
          lanes.Store(add(next, q_k.row(i), lanes.Load(to_o)), to_o);
        }
      });
      Unroll<kBlock>([&](auto i) HWY_ATTR {
        if (i >= rows) return;
        x[i] = add(i, a_b.row(i), lanes.Load(reads_.row(i) + c));
        lanes.Store(x[i], values_.row(i) + c);
      });
      if constexpr (kOutput) {
        Unroll<kBlock>([&](auto i) HWY_ATTR {
          if (i >= rows) return;
          const auto next = std::integral_constant<size_t, i + 1>();
          lanes.Store(
              add(next, q_b.row(i), lanes.Load(reads_.row(rows + i) + c)),
              o.row(begin_ + i) + c);
        });
      }
    });
  }

  const GeneralizedDelta<T>& x_;
  const size_t key_dim_;
  const size_t value_dim_;
  size_t begin_ = 0;
  size_t rows_ = 0;

  BlockDecay<T> decay_;
  MatrixView<T> tokens_;  // a, q, b and k: kBlock rows each
  MatrixView<T> readers_, writers_, reads_, values_;
  MatrixView<T> scores_;  // rows of a, then q; columns of b, then k
};

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_INL_H_
