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

#include <algorithm>
#include <cstddef>

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
    readers_ = matrix(2 * kBlock, key_dim_);
    writers_ = matrix(2 * kBlock, key_dim_);
    reads_ = matrix(2 * kBlock, value_dim_);
    values_ = matrix(2 * kBlock, value_dim_);
    for (MatrixView<T>* scores : {&a_b_, &a_k_, &q_b_, &q_k_}) {
      *scores = matrix(kBlock, kBlock);
    }
    decayed_b_ = take(key_dim_ * kBlock);
    decayed_k_ = take(key_dim_ * kBlock);
  }

  // To be called once after LayOut.
  void Initialise() { decay_.Initialise(); }

  void Start(size_t begin, size_t rows, MatrixView<const T> state) {
    begin_ = begin;
    rows_ = rows;
    decay_.Start(begin, rows);
    for (size_t i = 0; i < rows; ++i) {
      const auto copy = [&](const T* x, const T* decay, T* y) HWY_ATTR {
        DecayToken(x, T{1}, decay, key_dim_, y);
      };
      copy(a(i), decay_.before(i), readers_.row(i));
      copy(q(i), decay_.from_start(i), readers_.row(rows + i));
      copy(b(i), decay_.to_end(i), writers_.row(i));
      copy(k(i), decay_.to_end(i), writers_.row(rows + i));
      std::copy_n(v(i), value_dim_, values_.row(rows + i));
    }
    Product<T>(Transpose::kNo, Transpose::kNo, readers(), state,
               reads_.Rows(0, 2 * rows));
    Score();
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
  BlockDecay<T>& decay() { return decay_; }
  const BlockDecay<T>& decay() const { return decay_; }
  // a_i d_i^- and q_i d_i; b_j d_j* and k_j d_j*; u_j and v_j.
  MatrixView<const T> readers() const { return readers_.Rows(0, 2 * rows_); }
  MatrixView<const T> writers() const { return writers_.Rows(0, 2 * rows_); }
  MatrixView<const T> values() const { return values_.Rows(0, 2 * rows_); }
  // (i, j): a_i . b_j d_{i-1,j} and a_i . k_j d_{i-1,j} for j < i, q_i . b_j
  // d_ij and q_i . k_j d_ij for j <= i. Entries further right are unspecified.
  const MatrixView<T>& a_b() const { return a_b_; }
  const MatrixView<T>& a_k() const { return a_k_; }
  const MatrixView<T>& q_b() const { return q_b_; }
  const MatrixView<T>& q_k() const { return q_k_; }

 private:
  // The terms in v wait for nothing: they are summed apart from those in u.
  template <bool kOutput>
  HWY_FLATTEN HWY_NOINLINE void SubstituteRows(MatrixView<T> o) {
    const hn::ScalableTag<T> d;
    ForEachVector(d, value_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      for (size_t i = 0; i < rows_; ++i) {
        const T *a_b = a_b_.row(i), *a_k = a_k_.row(i);
        const T *q_b = q_b_.row(i), *q_k = q_k_.row(i);
        auto u = lanes.Load(reads_.row(i) + c);
        auto out = lanes.Load(reads_.row(rows_ + i) + c);
        auto u_of_v = hn::Zero(d), out_of_v = hn::Zero(d);
        for (size_t j = 0; j < i; ++j) {
          const auto u_j = lanes.Load(values_.row(j) + c);
          const auto v_j = lanes.Load(values_.row(rows_ + j) + c);
          u = hn::MulAdd(hn::Set(d, a_b[j]), u_j, u);
          u_of_v = hn::MulAdd(hn::Set(d, a_k[j]), v_j, u_of_v);
          if constexpr (kOutput) {
            out = hn::MulAdd(hn::Set(d, q_b[j]), u_j, out);
            out_of_v = hn::MulAdd(hn::Set(d, q_k[j]), v_j, out_of_v);
          }
        }
        u = hn::Add(u, u_of_v);
        lanes.Store(u, values_.row(i) + c);
        if constexpr (kOutput) {
          const auto v_i = lanes.Load(values_.row(rows_ + i) + c);
          out = hn::MulAdd(hn::Set(d, q_b[i]), u, out);
          out_of_v = hn::MulAdd(hn::Set(d, q_k[i]), v_i, out_of_v);
          lanes.Store(hn::Add(out, out_of_v), o.row(begin_ + i) + c);
        }
      }
    });
  }

  // All four score matrices, a vector of columns j at a time. The lanes of
  // decayed_b_ and decayed_k_ hold b_j d_ij and k_j d_ij while i runs down the
  // rows: a_i reads them before the decay of token i, q_i after it and after
  // b_i and k_i have entered at j = i. Later tokens are still zero, so that not
  // even a NaN of theirs is seen.
  HWY_NOINLINE void Score() {
    const hn::CappedTag<T, kBlock> d;
    const size_t lanes = hn::Lanes(d);
    for (size_t col = 0; col < rows_; col += lanes) {
      std::fill_n(decayed_b_, key_dim_ * lanes, T{0});
      std::fill_n(decayed_k_, key_dim_ * lanes, T{0});
      for (size_t i = col; i < rows_; ++i) {
        const auto self = hn::Eq(hn::Iota(d, static_cast<T>(col)),
                                 hn::Set(d, static_cast<T>(i)));
        const T *a_i = a(i), *q_i = q(i), *b_i = b(i), *k_i = k(i);
        const T* factor = decay_.factor(i);
        auto a_b = hn::Zero(d), a_k = hn::Zero(d);
        auto q_b = hn::Zero(d), q_k = hn::Zero(d);
        for (size_t c = 0; c < key_dim_; ++c) {
          T *at_b = decayed_b_ + c * lanes, *at_k = decayed_k_ + c * lanes;
          const auto old_b = hn::Load(d, at_b), old_k = hn::Load(d, at_k);
          const auto a_ic = hn::Set(d, a_i[c]), q_ic = hn::Set(d, q_i[c]);
          const auto f = hn::Set(d, factor[c]);
          const auto new_b =
              hn::IfThenElse(self, hn::Set(d, b_i[c]), hn::Mul(f, old_b));
          const auto new_k =
              hn::IfThenElse(self, hn::Set(d, k_i[c]), hn::Mul(f, old_k));
          hn::Store(new_b, d, at_b);
          hn::Store(new_k, d, at_k);
          a_b = hn::MulAdd(a_ic, old_b, a_b);
          a_k = hn::MulAdd(a_ic, old_k, a_k);
          q_b = hn::MulAdd(q_ic, new_b, q_b);
          q_k = hn::MulAdd(q_ic, new_k, q_k);
        }
        hn::Store(a_b, d, a_b_.row(i) + col);
        hn::Store(a_k, d, a_k_.row(i) + col);
        hn::Store(q_b, d, q_b_.row(i) + col);
        hn::Store(q_k, d, q_k_.row(i) + col);
      }
    }
  }

  const GeneralizedDelta<T>& x_;
  const size_t key_dim_;
  const size_t value_dim_;
  size_t begin_ = 0;
  size_t rows_ = 0;

  BlockDecay<T> decay_;
  MatrixView<T> readers_, writers_, reads_, values_;
  MatrixView<T> a_b_, a_k_, q_b_, q_k_;
  T* decayed_b_ = nullptr;
  T* decayed_k_ = nullptr;
};

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_INL_H_
