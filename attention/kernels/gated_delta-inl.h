// SPDX-License-Identifier: Apache-2.0
//
// One block of the gated delta rule (gated_delta.h) in WY form: what the
// forward and the backward's recomputation share.

#if defined(MNEME_ATTENTION_KERNELS_GATED_DELTA_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_GATED_DELTA_INL_H_
#undef MNEME_ATTENTION_KERNELS_GATED_DELTA_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_GATED_DELTA_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/block_decay-inl.h"
#include "attention/kernels/gated_delta.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace delta {
namespace hn = hwy::HWY_NAMESPACE;

static_assert(kBlock == kGatedDeltaBlock);

// Use: Start, then Substitute, then Advance. Matrices have a row per token.
template <typename T>
class Block {
 public:
  explicit Block(const GatedDelta<T>& a)
      : a_(a),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        decay_(a.log_decay, key_dim_) {}

  template <class Take>
  void LayOut(const Take& take) {
    const auto matrix = [&](size_t rows, size_t cols) {
      return MatrixView<T>(take(rows * cols), rows, cols);
    };
    decay_.LayOut(take);
    key_end_ = matrix(kBlock, key_dim_);
    readers_ = matrix(2 * kBlock, key_dim_);
    reads_ = matrix(2 * kBlock, value_dim_);
    error_ = matrix(kBlock, value_dim_);
    update_ = matrix(kBlock, value_dim_);
    key_scores_ = matrix(kBlock, kBlock);
    query_scores_ = matrix(kBlock, kBlock);
    decayed_keys_ = take(key_dim_ * kBlock);
  }

  // To be called once after LayOut.
  void Initialise() { decay_.Initialise(); }

  // The factors e^g of one token, for Step.
  const T* Factors(size_t t) { return decay_.Factors(t); }

  void Start(size_t begin, size_t rows, MatrixView<const T> state) {
    begin_ = begin;
    rows_ = rows;
    decay_.Start(begin, rows);
    for (size_t i = 0; i < rows; ++i) {
      DecayToken(k(i), T{1}, from_start(i), key_dim_, readers_.row(i));
      DecayToken(q(i), a_.scale, from_start(i), key_dim_,
                 readers_.row(rows + i));
      DecayToken(k(i), T{1}, to_end(i), key_dim_, key_end_.row(i));
    }
    Product<T>(Transpose::kNo, Transpose::kNo, readers(), state,
               reads_.Rows(0, 2 * rows));
    Score();
  }

  // e and u, and, unless null, o.
  HWY_FLATTEN HWY_NOINLINE void Substitute(MatrixView<T> o) {
    const hn::ScalableTag<T> d;
    ForEachVector(d, value_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      for (size_t i = 0; i < rows_; ++i) {
        const T* key_score = key_scores_.row(i);
        const T* query_score = query_scores_.row(i);
        auto error = hn::Sub(lanes.Load(v(i) + c), lanes.Load(Read(i) + c));
        auto out = lanes.Load(Read(rows_ + i) + c);
        for (size_t j = 0; j < i; ++j) {
          const auto u = lanes.Load(update_.row(j) + c);
          error = hn::NegMulAdd(hn::Set(d, key_score[j]), u, error);
          out = hn::MulAdd(hn::Set(d, query_score[j]), u, out);
        }
        const auto u = hn::Mul(hn::Set(d, beta(i)), error);
        lanes.Store(error, error_.row(i) + c);
        lanes.Store(u, update_.row(i) + c);
        if (o.data == nullptr) continue;
        lanes.Store(hn::MulAdd(hn::Set(d, query_score[i]), u, out),
                    o.row(begin_ + i) + c);
      }
    });
  }

  // The state behind the block; state is the one before it on entry.
  void Advance(MatrixView<T> state) const {
    if (decays()) ScaleStateRows(total(), state);
    Product<T>(Transpose::kYes, Transpose::kNo, key_end(), update(), state,
               T{1});
  }

  bool decays() const { return decay_.decays(); }
  size_t rows() const { return rows_; }
  const T* q(size_t i) const { return a_.q.row(begin_ + i); }
  const T* k(size_t i) const { return a_.k.row(begin_ + i); }
  const T* v(size_t i) const { return a_.v.row(begin_ + i); }
  T beta(size_t i) const { return *a_.beta.row(begin_ + i); }
  // See BlockDecay.
  const T* factor(size_t i) const { return decay_.factor(i); }
  const T* from_start(size_t i) const { return decay_.from_start(i); }
  const T* to_end(size_t i) const { return decay_.to_end(i); }
  const T* total() const { return decay_.total(); }
  // What reads S_in: k_i d_i, and after them s q_i d_i.
  MatrixView<const T> readers() const { return readers_.Rows(0, 2 * rows_); }
  MatrixView<const T> key_end() const { return key_end_.Rows(0, rows_); }
  MatrixView<const T> error() const { return error_.Rows(0, rows_); }
  MatrixView<const T> update() const { return update_.Rows(0, rows_); }
  // (i, j): k_i . k_j d_ij for j < i, s q_i . k_j d_ij for j <= i. Entries
  // further right are unspecified.
  const MatrixView<T>& key_scores() const { return key_scores_; }
  const MatrixView<T>& query_scores() const { return query_scores_; }

 private:
  const T* Read(size_t i) const { return reads_.row(i); }

  // Both score matrices, a vector of columns j at a time. The lanes of
  // decayed_keys_ hold k_j d_ij while i runs down the rows, beginning with k_i
  // at j = i: later tokens are still zero, so that not even a NaN of theirs is
  // seen.
  HWY_NOINLINE void Score() {
    const hn::CappedTag<T, kBlock> d;
    const size_t lanes = hn::Lanes(d);
    for (size_t col = 0; col < rows_; col += lanes) {
      std::fill_n(decayed_keys_, key_dim_ * lanes, T{0});
      for (size_t i = col; i < rows_; ++i) {
        const auto self = hn::Eq(hn::Iota(d, static_cast<T>(col)),
                                 hn::Set(d, static_cast<T>(i)));
        const T *q_i = q(i), *k_i = k(i), *factor = this->factor(i);
        auto key_score = hn::Zero(d), query_score = hn::Zero(d);
        for (size_t c = 0; c < key_dim_; ++c) {
          T* decayed = decayed_keys_ + c * lanes;
          const auto key = hn::Set(d, k_i[c]);
          const auto old = hn::Mul(hn::Load(d, decayed), hn::Set(d, factor[c]));
          const auto all = hn::IfThenElse(self, key, old);
          hn::Store(all, d, decayed);
          key_score = hn::MulAdd(key, old, key_score);
          query_score = hn::MulAdd(hn::Set(d, q_i[c]), all, query_score);
        }
        hn::Store(key_score, d, key_scores_.row(i) + col);
        hn::Store(hn::Mul(query_score, hn::Set(d, a_.scale)), d,
                  query_scores_.row(i) + col);
      }
    }
  }

  const GatedDelta<T>& a_;
  const size_t key_dim_;
  const size_t value_dim_;
  size_t begin_ = 0;
  size_t rows_ = 0;

  BlockDecay<T> decay_;
  MatrixView<T> key_end_, readers_, reads_;
  MatrixView<T> error_, update_;
  MatrixView<T> key_scores_, query_scores_;
  T* decayed_keys_ = nullptr;
};

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_GATED_DELTA_INL_H_
