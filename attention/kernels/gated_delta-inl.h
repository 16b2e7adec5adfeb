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
    tokens_ = matrix(2 * kBlock, key_dim_);
    readers_ = matrix(2 * kBlock, key_dim_);
    key_end_ = matrix(kBlock, key_dim_);
    reads_ = matrix(2 * kBlock, value_dim_);
    error_ = matrix(kBlock, value_dim_);
    update_ = matrix(kBlock, value_dim_);
    scores_ = matrix(2 * kBlock, kBlock);
  }

  void Start(size_t begin, size_t rows, MatrixView<const T> state) {
    begin_ = begin;
    rows_ = rows;
    decay_.Start(begin, rows);
    for (size_t i = 0; i < rows; ++i) {
      ScaleEntries(k(i), T{1}, key_dim_, tokens_.row(i));
      ScaleEntries(q(i), a_.scale, key_dim_, tokens_.row(rows + i));
      const size_t later = begin + rows + i;
      if (later < a_.q.rows) {
        PrefetchRow(a_.k.row(later), key_dim_);
        PrefetchRow(a_.q.row(later), key_dim_);
        PrefetchRow(a_.v.row(later), value_dim_);
        if (decays()) PrefetchRow(a_.log_decay.row(later), a_.log_decay.cols);
      }
    }
    for (size_t i = 0; i < rows && decays(); ++i) {
      const T *key = tokens_.row(i), *query = tokens_.row(rows + i);
      const T* from_start = decay_.from_start(i);
      decay_.Apply(key, T{1}, from_start, readers_.row(i));
      decay_.Apply(query, T{1}, from_start, readers_.row(rows + i));
      decay_.Apply(key, T{1}, decay_.to_end(i), key_end_.row(i));
    }
    Product<T>(Transpose::kNo, Transpose::kNo, readers(), state,
               reads_.Rows(0, 2 * rows));
    if (decays() && !decay_.uniform()) {
      BlockScores<T, 1, false>{tokens_.Rows(0, rows),
                               tokens_.Rows(rows, rows),
                               {tokens_.Rows(0, rows)},
                               scores_}
          .Compute(decay_);
    } else {
      Product<T>(Transpose::kNo, Transpose::kYes, tokens_.Rows(0, 2 * rows),
                 tokens_.Rows(0, rows),
                 {scores_.data, 2 * rows, rows, scores_.stride});
      if (decays()) DecayScores();
    }
  }

  // u, and e or, unless null, o.
  void Substitute(MatrixView<T> o) {
    if (o.data == nullptr) {
      SubstituteRows<false>(o);
    } else {
      SubstituteRows<true>(o);
    }
  }

  // The state behind the block; state is the one before it on entry.
  void Advance(MatrixView<T> state) const {
    T fade = 1;
    if (decays() && decay_.uniform()) fade = *decay_.total();
    if (decays() && !decay_.uniform()) ScaleStateRows(decay_.total(), state);
    Product<T>(Transpose::kYes, Transpose::kNo, key_end(), update(), state,
               fade);
  }

  bool decays() const { return decay_.decays(); }
  size_t rows() const { return rows_; }
  const T* q(size_t i) const { return a_.q.row(begin_ + i); }
  const T* k(size_t i) const { return a_.k.row(begin_ + i); }
  const T* v(size_t i) const { return a_.v.row(begin_ + i); }
  T beta(size_t i) const { return *a_.beta.row(begin_ + i); }
  BlockDecay<T>& decay() { return decay_; }
  const BlockDecay<T>& decay() const { return decay_; }
  // What reads S_in: k_i d_i, and after them s q_i d_i.
  MatrixView<const T> readers() const {
    return (decays() ? readers_ : tokens_).Rows(0, 2 * rows_);
  }
  MatrixView<const T> key_end() const {
    return (decays() ? key_end_ : tokens_).Rows(0, rows_);
  }
  MatrixView<const T> error() const { return error_.Rows(0, rows_); }
  MatrixView<const T> update() const { return update_.Rows(0, rows_); }
  // (i, j): k_i . k_j d_ij for j < i, s q_i . k_j d_ij for j <= i. Entries
  // further right are unspecified.
  MatrixView<T> key_scores() const { return scores_.Rows(0, rows_); }
  MatrixView<T> query_scores() const { return scores_.Rows(rows_, rows_); }

 private:
  // Unrolled, so that the updates stay in registers and the chain from token to
  // token is one multiply-add and one product long.
  template <bool kOutput>
  HWY_FLATTEN HWY_NOINLINE void SubstituteRows(MatrixView<T> o) {
    const hn::ScalableTag<T> d;
    using V = hn::VFromD<decltype(d)>;
    const size_t rows = rows_;
    const MatrixView<T> keys = key_scores(), queries = query_scores();
    ForEachVector(d, value_dim_, [&](size_t c, const auto& lanes) HWY_ATTR {
      V u[kBlock];
      Unroll<kBlock>([&](auto i) HWY_ATTR {
        u[i] = hn::Zero(d);
        if (i >= rows) return;
        V error = hn::Sub(lanes.Load(v(i) + c), lanes.Load(Read(i) + c));
        const T* score = keys.row(i);
        Unroll<i>([&](auto j) HWY_ATTR {
          error = hn::NegMulAdd(hn::Set(d, score[j]), u[j], error);
        });
        u[i] = hn::Mul(hn::Set(d, beta(i)), error);
        if constexpr (!kOutput) lanes.Store(error, error_.row(i) + c);
        lanes.Store(u[i], update_.row(i) + c);
      });
      if constexpr (kOutput) {
        Unroll<kBlock>([&](auto i) HWY_ATTR {
          if (i >= rows) return;
          V out = lanes.Load(Read(rows + i) + c);
          const T* score = queries.row(i);
          Unroll<i + 1>([&](auto j) HWY_ATTR {
            out = hn::MulAdd(hn::Set(d, score[j]), u[j], out);
          });
          lanes.Store(out, o.row(begin_ + i) + c);
        });
      }
    });
  }

  const T* Read(size_t i) const { return reads_.row(i); }

  // Score (i, j) *= d_ij, a vector of columns j at a time.
  HWY_NOINLINE void DecayScores() {
    const hn::CappedTag<T, kBlock> d;
    for (size_t col = 0; col < rows_; col += hn::Lanes(d)) {
      auto decay = hn::Zero(d);
      for (size_t i = col; i < rows_; ++i) {
        const auto self = hn::Eq(hn::Iota(d, static_cast<T>(col)),
                                 hn::Set(d, static_cast<T>(i)));
        decay = recurrence::FlushSubnormals(
            d, hn::Mul(decay, hn::Set(d, *decay_.factor(i))));
        decay = hn::IfThenElse(self, hn::Set(d, T{1}), decay);
        for (size_t r : {i, rows_ + i}) {
          T* score = scores_.row(r) + col;
          hn::Store(hn::Mul(decay, hn::Load(d, score)), d, score);
        }
      }
    }
  }

  const GatedDelta<T>& a_;
  const size_t key_dim_;
  const size_t value_dim_;
  size_t begin_ = 0;
  size_t rows_ = 0;

  BlockDecay<T> decay_;
  MatrixView<T> tokens_;  // k, then s q
  MatrixView<T> readers_, key_end_, reads_;
  MatrixView<T> error_, update_;
  MatrixView<T> scores_;  // of keys with keys, then of queries with keys
};

}  // namespace delta
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_GATED_DELTA_INL_H_
