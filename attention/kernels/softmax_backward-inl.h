// SPDX-License-Identifier: Apache-2.0
//
// Backward pass of softmax attention, with queries in lanes like the forward:
//
//   P = exp(S - lse),  dV = P^T dO,  dS = P (dO V^T - rowsum(dO O)),
//   dQ = s dS K,       dK = s dS^T Q.
//
// The five products are the forward's tiles. P^T and dS^T, one row per key, are
// just what dV and dK need on their left, with dO and Q read in place on the
// right. As in the forward, log2(e) is part of the factor of the queries; s is
// part of the copy of dO that dP = dO V^T is computed from, and so of dS.

#if defined(MNEME_ATTENTION_KERNELS_SOFTMAX_BACKWARD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SOFTMAX_BACKWARD_INL_H_
#undef MNEME_ATTENTION_KERNELS_SOFTMAX_BACKWARD_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SOFTMAX_BACKWARD_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <limits>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_mask-inl.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A row-major matrix in place if whole vectors of its rows can be read,
// otherwise a padded copy. Scattered rows are copied, too, if read `often`.
template <typename T>
struct WholeVectors {
  WholeVectors(MatrixView<const T> m, bool often, T* copy)
      : data(m.data), stride(m.stride) {
    const bool ragged = m.cols % kLanes<T> != 0;
    if (!ragged && !(often && Scattered<T>(m.stride))) return;
    data = copy;
    stride = CopyStride<T>(m.cols);
    if (ragged) {
      CopyPadded(m.data, m.stride, m.rows, m.cols, copy, stride);
    } else {
      CopyRows(m, MatrixView<T>(copy, m.rows, m.cols, stride));
    }
  }

  const T* data;
  size_t stride;
};

// Gradients of up to kVecs vectors of queries and of all keys that they see.
template <typename T>
class BackwardBlock {
 public:
  static constexpr size_t kN = kLanes<T>;
  // Two pairs: each element of d_k and d_v is loaded and stored once for so
  // many multiply-adds.
  static constexpr size_t kVecs = 4;
  static constexpr size_t kQueries = kVecs * kN;

  BackwardBlock(const SoftmaxGradients<T>& a, SoftmaxScratch<T>& scratch)
      : a_(a),
        q_(scratch.Take(a.q.cols * kQueries)),
        d_o_(scratch.Take(a.v.cols * kQueries)),
        d_q_(scratch.Take(a.q.cols * kQueries)),
        weights_(scratch.Take(kKeyBlock * kQueries)),
        d_scores_(scratch.Take(kKeyBlock * kQueries)),
        q_copy_(scratch.Take(kQueries * CopyStride<T>(a.q.cols))),
        d_o_copy_(scratch.Take(kQueries * CopyStride<T>(a.v.cols))) {}

  // Elements of scratch memory that the constructor takes, in kArrays arrays.
  static constexpr size_t kArrays = 7;
  static size_t ScratchSize(size_t key_dim, size_t value_dim) {
    return kQueries * (2 * key_dim + value_dim + 2 * kKeyBlock +
                       CopyStride<T>(key_dim) + CopyStride<T>(value_dim));
  }

  // Queries [first, first + count), 0 < count <= kQueries.
  void Run(size_t first, size_t count) {
    const AttentionMask& mask = a_.mask;
    constexpr T kLog2E = static_cast<T>(1.44269504088896340736);
    const size_t last = first + count - 1;
    const size_t vecs = (count + kN - 1) / kN;
    const auto keys_of = [&](size_t vec) {
      return VectorKeys(mask, a_.k.rows, std::min(first + vec * kN, last),
                        std::min(first + vec * kN + kN - 1, last));
    };
    const VectorKeys keys[kVecs] = {keys_of(0), keys_of(1), keys_of(2),
                                    keys_of(3)};
    const size_t end = keys[vecs - 1].some.end;
    const bool often = end > keys[0].some.begin + 4 * kKeyBlock;
    const WholeVectors<T> q(a_.q.Rows(first, count), often, q_copy_);
    const WholeVectors<T> d_o(a_.d_o.Rows(first, count), often, d_o_copy_);
    Load({q.data, count, a_.q.cols, q.stride}, a_.scale * kLog2E, q_);
    Load({d_o.data, count, a_.v.cols, d_o.stride}, a_.scale, d_o_);
    LoadStatistics(first, count);
    std::fill_n(d_q_, a_.q.cols * kQueries, T{0});

    for (size_t begin = keys[0].some.begin; begin < end; begin += kKeyBlock) {
      const size_t block_end = std::min(begin + kKeyBlock, end);
      for (size_t vec = 0; vec < vecs; vec += 2) {
        const size_t pair = std::min<size_t>(2, vecs - vec);
        const size_t pair_end =
            std::min(block_end, keys[vec + pair - 1].some.end);
        if (begin >= pair_end) continue;
        ForEachSection(begin, pair_end, keys[vec].some.end, pair,
                       [&](const Section& s, auto n) HWY_ATTR {
                         AddQueryGradients<n()>(s, begin, vec + s.vec,
                                                keys + vec + s.vec);
                       });
      }
      for (size_t vec = 0; vec < vecs; ++vec) {
        ClearUnseen(begin, block_end, vec, keys[vec].some.end);
      }
      AddKeyGradients(begin, block_end, keys[0].position, count, q, d_o);
    }
    Transpose<Old::kAdd>(d_q_, kQueries, a_.q.cols, count, T{1},
                         a_.d_q.row(first), a_.d_q.stride);
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  static constexpr size_t kKeyBlock = 64;

  // Transposes rows to lanes; what is left of the lanes becomes 0.
  static void Load(MatrixView<const T> rows, T factor, T* to) {
    if (rows.rows != kQueries) std::fill_n(to, rows.cols * kQueries, T{0});
    Transpose<Old::kIgnore>(rows.data, rows.stride, rows.rows, rows.cols,
                            factor, to, kQueries);
  }

  // lse_ and delta_ of queries [first, first + count).
  void LoadStatistics(size_t first, size_t count) {
    constexpr T kLog2E = static_cast<T>(1.44269504088896340736);
    constexpr T kInf = std::numeric_limits<T>::infinity();
    const D d;
    std::copy_n(a_.lse + first, count, lse_);
    std::fill(lse_ + count, lse_ + kQueries, -kInf);
    for (size_t i = 0; i < kQueries; i += kN) {
      const V lse = hn::Load(d, lse_ + i);
      // A query that sees nothing (or is none) has weights of exp(-inf - inf).
      hn::Store(hn::IfThenElse(hn::Eq(lse, hn::Set(d, -kInf)), hn::Inf(d),
                               hn::Mul(lse, hn::Set(d, kLog2E))),
                d, lse_ + i);
    }
    constexpr size_t kGroup = kBlockLanes<T>;
    const size_t whole = a_.o.cols / kN * kN;
    for (size_t i = 0; i < count; i += kGroup) {
      size_t row[kGroup];
      V sum[kGroup];
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        row[g] = first + std::min(i + g, count - 1);
        sum[g] = hn::Zero(d);
      }
      for (size_t c = 0; c < whole; c += kN) {
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          sum[g] = hn::MulAdd(hn::LoadU(d, a_.o.row(row[g]) + c),
                              hn::LoadU(d, a_.d_o.row(row[g]) + c), sum[g]);
        }
      }
      StoreSumsOfLanes(sum, delta_ + i);
      for (size_t c = whole; c < a_.o.cols; ++c) {
        for (size_t g = 0; g < kGroup; ++g) {
          delta_[i + g] += a_.o(row[g], c) * a_.d_o(row[g], c);
        }
      }
    }
    for (size_t i = 0; i < kQueries; ++i) delta_[i] *= a_.scale;
  }

  // Weights and score gradients of a section of the block of keys that starts
  // at `block`, and what these add to d_q, for kCount vectors from `vec` on.
  template <size_t kCount>
  HWY_INLINE void AddQueryGradients(const Section& s, size_t block, size_t vec,
                                    const VectorKeys* keys) {
    const size_t count = s.end - s.begin;
    const size_t at = (s.begin - block) * kQueries + vec * kN;
    const RowsOf<T> k{a_.k.row(s.begin), a_.k.stride};
    const RowsOf<T> v{a_.v.row(s.begin), a_.v.stride};
    T* const weights = weights_ + at;
    T* const d_scores = d_scores_ + at;
    Product<kCount, Old::kIgnore>(k, count, a_.k.cols, q_ + vec * kN, kQueries,
                                  weights, kQueries);
    for (size_t i = 0; i < kCount; ++i) {
      MaskScores(a_.mask, keys[i], s.begin, s.end, weights + i * kN, kQueries);
    }
    Product<kCount, Old::kIgnore>(v, count, a_.v.cols, d_o_ + vec * kN,
                                  kQueries, d_scores, kQueries);
    for (size_t i = 0; i < kCount; ++i) {
      Differentiate(count, vec + i, weights + i * kN, d_scores + i * kN);
    }
    Product<kCount, Old::kAdd>(ColumnsOf<T>{k.data, k.stride}, a_.k.cols, count,
                               d_scores, kQueries, d_q_ + vec * kN, kQueries);
  }

  // Turns scores into weights P, and the gradients of these into those of
  // scores, for one vector of queries.
  HWY_INLINE void Differentiate(size_t keys, size_t vec,
                                T* HWY_RESTRICT weights,
                                T* HWY_RESTRICT d_scores) const {
    const V lse = hn::Load(D(), lse_ + vec * kN);
    const V delta = hn::Load(D(), delta_ + vec * kN);
    size_t key = 0;
    for (; key + kExpBatch <= keys; key += kExpBatch) {
      DifferentiateBatch<kExpBatch>(lse, delta, weights + key * kQueries,
                                    d_scores + key * kQueries);
    }
    for (; key < keys; ++key) {
      DifferentiateBatch<1>(lse, delta, weights + key * kQueries,
                            d_scores + key * kQueries);
    }
  }

  template <size_t kKeys>
  static HWY_INLINE void DifferentiateBatch(V lse, V delta,
                                            T* HWY_RESTRICT weights,
                                            T* HWY_RESTRICT d_scores) {
    const D d;
    V weight[kKeys];
    HWY_UNROLL(8) for (size_t i = 0; i < kKeys; ++i) {
      weight[i] = hn::Sub(hn::Load(d, weights + i * kQueries), lse);
    }
    FastExp2NonPositive<kKeys>(d, weight);
    HWY_UNROLL(8) for (size_t i = 0; i < kKeys; ++i) {
      hn::Store(weight[i], d, weights + i * kQueries);
      T* const d_score = d_scores + i * kQueries;
      const V d_weight = hn::Sub(hn::Load(d, d_score), delta);
      hn::Store(hn::Mul(weight[i], d_weight), d, d_score);
    }
  }

  // Tiles of AddKeyGradients may read a few keys beyond those that a vector
  // sees and that have been computed.
  void ClearUnseen(size_t begin, size_t end, size_t vec, size_t vec_end) {
    const D d;
    const size_t from = std::max(vec_end, begin);
    const size_t to = std::min(vec_end + kTileRows, end);
    for (size_t key = from; key < to; ++key) {
      const size_t at = (key - begin) * kQueries + vec * kN;
      hn::Store(hn::Zero(d), d, weights_ + at);
      hn::Store(hn::Zero(d), d, d_scores_ + at);
    }
  }

  // Adds to d_k and d_v for keys [begin, end). The first of `count` queries
  // stands at `position`.
  HWY_INLINE void AddKeyGradients(size_t begin, size_t end, size_t position,
                                  size_t count, const WholeVectors<T>& q,
                                  const WholeVectors<T>& d_o) {
    for (size_t key = begin; key < end; key += kTileRows) {
      const size_t keys = std::min(kTileRows, end - key);
      const size_t last_key = key + keys - 1;
      // The queries that see some of these keys.
      size_t from = 0;
      size_t to = count;
      if (a_.mask.causal && key > position) from = key - position;
      if (a_.mask.window != 0 && position + count > last_key &&
          a_.mask.window < position + count - last_key) {
        const size_t behind = position + count - last_key - a_.mask.window;
        to = behind < count ? count - behind : 0;
      }
      if (from >= to) continue;
      const size_t at = (key - begin) * kQueries + from;
      AddProduct(RowsOf<T>{weights_ + at, kQueries}, keys, to - from,
                 d_o.data + from * d_o.stride, d_o.stride, a_.d_v.row(key),
                 a_.d_v.cols, a_.d_v.stride);
      AddProduct(RowsOf<T>{d_scores_ + at, kQueries}, keys, to - from,
                 q.data + from * q.stride, q.stride, a_.d_k.row(key),
                 a_.d_k.cols, a_.d_k.stride);
    }
  }

  const SoftmaxGradients<T> a_;
  T* const q_;         // [key_dim][kQueries], scaled, with log2(e)
  T* const d_o_;       // [value_dim][kQueries], scaled
  T* const d_q_;       // [key_dim][kQueries]
  T* const weights_;   // [kKeyBlock][kQueries], before that scores
  T* const d_scores_;  // [kKeyBlock][kQueries]
  T* const q_copy_;    // [kQueries] rows for WholeVectors
  T* const d_o_copy_;
  HWY_ALIGN T lse_[kQueries];    // in base 2
  HWY_ALIGN T delta_[kQueries];  // dO . O, scaled
};

template <typename T>
void Backward(const SoftmaxGradients<T>& a) {
  using Block = BackwardBlock<T>;
  SoftmaxScratch<T> scratch(Block::kArrays,
                            Block::ScratchSize(a.q.cols, a.v.cols));
  Block block(a, scratch);
  for (size_t first = 0; first < a.q.rows; first += Block::kQueries) {
    block.Run(first, std::min(Block::kQueries, a.q.rows - first));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_BACKWARD_INL_H_
