// SPDX-License-Identifier: Apache-2.0
//
// The chunks of bf16_recurrence.h. Queries, weights and outputs are rows as
// they lie in memory; only keys are transposed, once. What a query reads of the
// state and of its chunk is one product, of depth key_dim + 64:
//
//   O = [scale e^G Q | weights] [S_in ; V],
//
// and the state's is K^T V, with K decayed to the chunk's end.

#if defined(MNEME_ATTENTION_KERNELS_BF16_CHUNKS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_BF16_CHUNKS_INL_H_
#undef MNEME_ATTENTION_KERNELS_BF16_CHUNKS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_BF16_CHUNKS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_chunk_weights-inl.h"
#include "attention/kernels/bf16_product.h"
#include "attention/kernels/finite-inl.h"
#include "attention/kernels/lane_sums-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// As columns of a product come by 32, so do key and value dimensions here;
// those beyond the sequence's are zeros.
template <class Rounding>
class Bf16Recurrence {
 public:
  Bf16Recurrence(const Bf16Unit& unit, const AdditiveRecurrence<float>& a,
                 float* state, MatrixView<float> o, float* den)
      : unit_(unit),
        a_(a),
        key_dim_(a.q.cols),
        value_dim_(a.v.cols),
        key_cols_(RoundUp(key_dim_, kBf16Columns)),
        value_cols_(RoundUp(value_dim_, kBf16Columns)),
        depth_(key_cols_ + kChunk),
        state_(state),
        o_(o),
        den_(a.normaliser ? den : nullptr),
        weights_(a.scale) {
    SoftmaxScratch<float> floats(6, value_cols_ * (key_cols_ + kBf16Columns) +
                                        std::max(key_cols_, kChunk) * kChunk +
                                        2 * std::max(key_cols_, value_cols_) +
                                        2 * key_cols_);
    s_ = floats.Take(key_cols_ * value_cols_);
    sums_ = floats.Take(kBf16Columns * value_cols_);
    scores_ = keys_ = floats.Take(std::max(key_cols_, kChunk) * kChunk);
    padded_ = floats.Take(2 * std::max(key_cols_, value_cols_));
    z_ = floats.Take(key_cols_);
    z_pairs_ = floats.Take(key_cols_);
    SoftmaxScratch<uint32_t> pairs(
        5, (kChunk * (depth_ + 3 * key_cols_) + depth_ * value_cols_) / 2);
    const auto rows = [&](size_t elements) {
      return reinterpret_cast<Bf16*>(pairs.Take(elements / 2));
    };
    left_ = rows(kChunk * depth_);
    right_ = pairs.Take(depth_ / 2 * value_cols_);
    q_rows_ = rows(kChunk * key_cols_);
    k_pairs_ = pairs.Take(key_cols_ / 2 * kChunk);
    k_columns_ = rows(key_cols_ * kChunk);
  }

  // Returns how many tokens are done: all before the first chunk in which some
  // input is not finite.
  size_t Run() {
    ReadState();
    size_t done = 0;
    while (done < a_.q.rows) {
      const size_t length = std::min(kChunk, a_.q.rows - done);
      if (!RunChunk(done, length)) break;
      done += length;
    }
    WriteState();
    return done;
  }

 private:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr size_t kN = kLanes<float>;
  static constexpr size_t kChunk = ChunkWeights::kChunk;
  static constexpr size_t kBlock = ChunkWeights::kBlock;

  void ReadState() {
    std::fill_n(s_, key_cols_ * value_cols_, 0.0f);
    std::fill_n(z_, key_cols_, 0.0f);
    const float* from = state_;
    for (size_t i = 0; i < key_dim_; ++i, from += value_dim_) {
      std::copy_n(from, value_dim_, s_ + i * value_cols_);
    }
    for (size_t i = 0; a_.normaliser && i < key_dim_; ++i) {
      z_[i] = from[i];
    }
  }

  void WriteState() const {
    float* to = state_;
    for (size_t i = 0; i < key_dim_; ++i, to += value_dim_) {
      std::copy_n(s_ + i * value_cols_, value_dim_, to);
    }
    for (size_t i = 0; a_.normaliser && i < key_dim_; ++i) {
      to[i] = z_[i];
    }
  }

  // Products and what vectors do stand close together, so that a matrix unit
  // works on the ones while others go on. False, and nothing is changed, if
  // some input is not finite.
  bool RunChunk(size_t begin, size_t length) {
    // Tokens beyond the sequence are zeros.
    tokens_ = RoundUp(length, kBf16Step);
    weights_.FindDecays(
        a_.log_decay == nullptr ? nullptr : a_.log_decay + begin, length);
    if (!PackQueries(begin, length) || !PackValues(begin, length) ||
        !AllFinite(a_.k.Rows(begin, length))) {
      return false;
    }
    PackState();
    PackKeys(begin, length);
    PrefetchChunk(begin + kChunk);
    Score();
    const size_t rows = RoundUp(key_dim_, kBf16Rows);
    const size_t rows_at_once =
        RoundUp((rows * kBf16Columns + tokens_ - 1) / tokens_, 2 * kBf16Rows);
    size_t row = 0;
    for (size_t first = 0; first < tokens_; first += kBf16Columns) {
      for (size_t block = first; block < first + kBf16Columns;
           block += kBlock) {
        a_.log_decay != nullptr ? Weigh<true>(block) : Weigh<false>(block);
      }
      const size_t count = std::min(kBf16Columns, length - first);
      Multiply(begin, first, count);
      const size_t end = std::min(rows, row + rows_at_once);
      AddToState(row, end);
      row = end;
    }
    if (den_ != nullptr) std::copy_n(totals_, length, den_ + begin);
    return true;
  }

  // Rows of a head may lie far apart, which hardware does not foresee.
  void PrefetchChunk(size_t begin) const {
    const size_t end = std::min(begin + kChunk, a_.q.rows);
    constexpr size_t kCacheLine = 64 / sizeof(float);
    for (size_t t = begin; t < end; ++t) {
      for (size_t c = 0; c < key_dim_; c += kCacheLine) {
        hwy::Prefetch(a_.q.row(t) + c);
        hwy::Prefetch(a_.k.row(t) + c);
      }
      for (size_t c = 0; c < value_dim_; c += kCacheLine) {
        hwy::Prefetch(a_.v.row(t) + c);
      }
    }
  }

  // Row t of m with `cols` columns, in the buffer unless m has it so; zeros
  // from row `end` on.
  static const float* Row(const MatrixView<const float>& m, size_t t,
                          size_t end, size_t cols, float* buffer) {
    if (t < end && m.cols == cols) return m.row(t);
    std::fill_n(buffer, cols, 0.0f);
    if (t < end) std::copy_n(m.row(t), m.cols, buffer);
    return buffer;
  }

  // Queries as they are and as they read the state. False if not all of them
  // are finite.
  HWY_NOINLINE bool PackQueries(size_t begin, size_t length) {
    const D d;
    FiniteCheck check;
    for (size_t t = 0; t < tokens_; ++t) {
      const float* const row =
          Row(a_.q, begin + t, begin + length, key_cols_, padded_);
      const V factor = hn::Set(d, weights_.from_start()[t]);
      for (size_t c = 0; c < key_cols_; c += 2 * kN) {
        const V first = check.First(hn::LoadU(d, row + c));
        const V second = check.Second(hn::LoadU(d, row + c + kN));
        Rounding::Store(d, hn::Mul(factor, first), hn::Mul(factor, second),
                        left_ + t * depth_ + c);
        if (a_.log_decay == nullptr) continue;
        Rounding::Store(d, first, second, q_rows_ + t * key_cols_ + c);
      }
    }
    return check.Passed();
  }

  // Pairs of tokens. False if not all of the values are finite.
  HWY_NOINLINE bool PackValues(size_t begin, size_t length) {
    const D d;
    const size_t end = begin + length;
    FiniteCheck check;
    uint32_t* to = right_ + key_cols_ / 2 * value_cols_;
    for (size_t t = begin; t < begin + tokens_; t += 2, to += value_cols_) {
      const float* const first = Row(a_.v, t, end, value_cols_, padded_);
      const float* const second =
          Row(a_.v, t + 1, end, value_cols_, padded_ + value_cols_);
      for (size_t c = 0; c < value_cols_; c += kN) {
        Rounding::StorePairs(d, check.First(hn::LoadU(d, first + c)),
                             check.Second(hn::LoadU(d, second + c)), to + c);
      }
    }
    return check.Passed();
  }

  // Keys transposed: pairs for scores, rows decayed to the chunk's end for the
  // state.
  HWY_NOINLINE void PackKeys(size_t begin, size_t length) {
    const D d;
    const float* const to_end = weights_.to_end();
    if (length != tokens_ || key_dim_ != key_cols_) {
      std::fill_n(keys_, key_cols_ * kChunk, 0.0f);
    }
    Transpose<Old::kIgnore>(a_.k.row(begin), a_.k.stride, length, key_dim_,
                            1.0f, keys_, kChunk);
    for (size_t c = 0; c < key_cols_; c += 2) {
      const float* const first = keys_ + c * kChunk;
      for (size_t t = 0; t < tokens_; t += kN) {
        Rounding::StorePairs(d, hn::Load(d, first + t),
                             hn::Load(d, first + kChunk + t),
                             k_pairs_ + c / 2 * kChunk + t);
      }
    }
    for (size_t c = 0; c < key_cols_; ++c) {
      for (size_t t = 0; t < tokens_; t += 2 * kN) {
        const auto decayed = [&](size_t at) HWY_ATTR {
          return hn::Mul(hn::Load(d, to_end + at),
                         hn::Load(d, keys_ + c * kChunk + at));
        };
        Rounding::Store(d, decayed(t), decayed(t + kN),
                        k_columns_ + c * kChunk + t);
      }
    }
    if (a_.normaliser) AddKeys();
  }

  HWY_NOINLINE void AddKeys() {
    const D d;
    const float* const to_end = weights_.to_end();
    const float across = weights_.across();
    constexpr size_t kTogether = kBlockLanes<float>;
    for (size_t c = 0; c < key_cols_; c += kTogether) {
      V sums[kTogether];
      for (size_t i = 0; i < kTogether; ++i) {
        const float* const row = keys_ + (c + i) * kChunk;
        sums[i] = hn::Zero(d);
        for (size_t t = 0; t < tokens_; t += kN) {
          sums[i] = hn::MulAdd(hn::Load(d, to_end + t), hn::Load(d, row + t),
                               sums[i]);
        }
      }
      float added[kTogether];
      StoreSumsOfLanes(sums, added);
      for (size_t i = 0; i < kTogether; ++i) {
        z_[c + i] = across * z_[c + i] + added[i];
      }
    }
  }

  // What queries read; what is left of it at the chunk's end stays in s_.
  HWY_NOINLINE void PackState() {
    const D d;
    const V across = hn::Set(d, weights_.across());
    for (size_t i = 0; i < key_cols_; i += 2) {
      float* const first = s_ + i * value_cols_;
      float* const second = first + value_cols_;
      uint32_t* const to = right_ + i / 2 * value_cols_;
      for (size_t c = 0; c < value_cols_; c += kN) {
        const V a = hn::Load(d, first + c), b = hn::Load(d, second + c);
        Rounding::StorePairs(d, a, b, to + c);
        hn::Store(hn::Mul(across, a), d, first + c);
        hn::Store(hn::Mul(across, b), d, second + c);
      }
    }
    if (!a_.normaliser) return;
    for (size_t i = 0; i < key_cols_; i += 2) {
      z_pairs_[i / 2] = z_[i];
      z_pairs_[(key_cols_ + i) / 2] = z_[i + 1];
    }
  }

  // Of queries with keys that are not all hidden from them.
  void Score() {
    const bool decays = a_.log_decay != nullptr;
    const Bf16* const q = decays ? q_rows_ : left_;
    const size_t stride = decays ? key_cols_ : depth_;
    for (size_t t = 0; t < tokens_; t += kBf16Columns) {
      unit_.multiply({tokens_ - t,
                      key_cols_,
                      {q + t * stride, stride, kBf16Step},
                      {k_pairs_ + t, kChunk},
                      scores_ + t * kChunk + t,
                      kChunk,
                      /*add=*/false});
    }
  }

  // Scores of queries [block, block + kBlock) times their decays become
  // weights.
  template <bool kDecays>
  HWY_NOINLINE void Weigh(size_t block) {
    constexpr size_t kRows = ChunkWeights::kRows;
    const D d;
    if (kDecays) weights_.Start(block);
    const size_t keys = RoundUp(block + kBlock, kBf16Step);
    for (size_t row = block; row < block + kBlock; row += kRows) {
      const float* const scores = scores_ + row * kChunk;
      V sums[kRows];
      for (V& sum : sums) sum = hn::Zero(d);
      for (size_t key = 0; key < keys; key += 2 * kN) {
        V weights[2][kRows];
        for (size_t half = 0; half < 2; ++half) {
          const size_t at = key + half * kN;
          if (at < block) {
            weights_.Earlier<kDecays>(scores, kChunk, row, at, weights[half]);
          } else if (at < block + kBlock) {
            weights_.Own<kDecays>(scores, kChunk, row, at, weights[half]);
          } else {
            for (V& weight : weights[half]) weight = hn::Zero(d);
          }
        }
        HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
          const V first = weights[0][r], second = weights[1][r];
          sums[r] = hn::Add(sums[r], hn::Add(first, second));
          Rounding::Store(d, first, second,
                          left_ + (row + r) * depth_ + key_cols_ + key);
        }
      }
      if (den_ == nullptr) continue;
      AddNormaliser(row, sums);
      for (size_t r = 0; r < kRows; r += kBlockLanes<float>) {
        StoreSumsOfLanes(sums + r, totals_ + row + r);
      }
    }
  }

  // What the state's normaliser adds to the denominators of four queries.
  HWY_INLINE void AddNormaliser(size_t row, V* HWY_RESTRICT sums) const {
    const D d;
    for (size_t r = 0; r < 4; ++r) {
      const auto* const q =
          reinterpret_cast<const uint32_t*>(left_ + (row + r) * depth_);
      for (size_t p = 0; p < key_cols_ / 2; p += kN) {
        const auto pairs = hn::LoadU(Bits<D>(), q + p);
        sums[r] = hn::MulAdd(FirstOfPairs(d, pairs), hn::LoadU(d, z_pairs_ + p),
                             sums[r]);
        sums[r] =
            hn::MulAdd(SecondOfPairs(d, pairs),
                       hn::LoadU(d, z_pairs_ + key_cols_ / 2 + p), sums[r]);
      }
    }
  }

  // Outputs of queries [first, first + count): what they read of the state and
  // of the chunk's own values is one product.
  void Multiply(size_t begin, size_t first, size_t count) {
    const bool in_place = count == kBf16Columns && value_dim_ == value_cols_;
    const MatrixView<float> o = o_.Rows(begin + first, count);
    float* const sums = in_place ? o.data : sums_;
    const size_t stride = in_place ? o.stride : value_cols_;
    for (size_t c = 0; c < value_cols_; c += kBf16Columns) {
      unit_.multiply({kBf16Columns,
                      key_cols_ + first + kBf16Columns,
                      {left_ + first * depth_, depth_, kBf16Step},
                      {right_ + c, value_cols_},
                      sums + c,
                      stride,
                      /*add=*/false});
    }
    for (size_t i = 0; !in_place && i < count; ++i) {
      std::copy_n(sums_ + i * value_cols_, value_dim_, o.row(i));
    }
    if (a_.divide) Divide(totals_ + first, o);
  }

  HWY_NOINLINE void Divide(const float* den, const MatrixView<float>& o) const {
    const D d;
    for (size_t i = 0; i < o.rows; ++i) {
      float* const row = o.row(i);
      const float inverse = 1 / (den[i] + a_.eps);
      size_t c = 0;
      for (; c + kN <= o.cols; c += kN) {
        hn::StoreU(hn::Mul(hn::Set(d, inverse), hn::LoadU(d, row + c)), d,
                   row + c);
      }
      for (; c < o.cols; ++c) row[c] *= inverse;
    }
  }

  // Rows [from, to) of the state.
  void AddToState(size_t from, size_t to) {
    if (from == to) return;
    for (size_t c = 0; c < value_cols_; c += kBf16Columns) {
      unit_.multiply({to - from,
                      tokens_,
                      {k_columns_ + from * kChunk, kChunk, kBf16Step},
                      {right_ + key_cols_ / 2 * value_cols_ + c, value_cols_},
                      s_ + from * value_cols_ + c,
                      value_cols_,
                      /*add=*/true});
    }
  }

  const Bf16Unit& unit_;
  const AdditiveRecurrence<float>& a_;
  const size_t key_dim_, value_dim_;
  const size_t key_cols_, value_cols_;  // in whole columns of products
  const size_t depth_;  // of outputs: the state's and the chunk's
  float* const state_;
  const MatrixView<float> o_;
  float* const den_;
  size_t tokens_ = 0;  // of the chunk, in whole steps

  float* s_;           // [key_cols_][value_cols_], the state
  float* z_;           // [key_cols_]
  float* z_pairs_;     // as the chunk finds it: even entries, odd ones
  float* keys_;        // [key_cols_][kChunk], until there are scores
  float* scores_;      // [kChunk][kChunk]
  float* sums_;        // [kBf16Columns][value_cols_]
  float* padded_;      // two rows
  Bf16* left_;         // [kChunk][depth_]: queries, weights
  uint32_t* right_;    // [depth_ / 2][value_cols_]: state, values
  Bf16* q_rows_;       // [kChunk][key_cols_]
  uint32_t* k_pairs_;  // [key_cols_ / 2][kChunk]
  Bf16* k_columns_;    // [key_cols_][kChunk], decayed to the end
  ChunkWeights weights_;
  HWY_ALIGN float totals_[kChunk];  // denominators
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BF16_CHUNKS_INL_H_
