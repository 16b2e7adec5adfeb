// SPDX-License-Identifier: Apache-2.0
//
// Attention over Bf16 keys and values for few queries, as in decoding, where
// the time goes into reading keys and values once. The mathematics is that of
// softmax_rows-inl.h, but blocks of keys are short, and while one is computed
// its values and the next block's keys are prefetched.
//
// Every 32-bit lane that is read holds a pair of numbers, which a shift and a
// mask turn into two floats: so queries and outputs are kept with the first
// numbers of pairs apart from the second. All arithmetic is float.

#if defined(MNEME_ATTENTION_KERNELS_BF16_ROWS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_BF16_ROWS_INL_H_
#undef MNEME_ATTENTION_KERNELS_BF16_ROWS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_BF16_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_attention.h"
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A query, where its output goes, and the keys it sees.
struct Bf16Row {
  const float* q;
  float* o;
  KeyRange keys;
};

class Bf16RowAttention {
 public:
  static constexpr size_t kMaxRows = kBf16FewQueries;

  // factor is the scale times log2(e).
  Bf16RowAttention(MatrixView<const Bf16> k, MatrixView<const Bf16> v,
                   float factor)
      : k_(k),
        v_(v),
        factor_(factor),
        q_stride_(RoundUp(k.cols, 2 * kN)),
        o_stride_(RoundUp(v.cols, 2 * kN)),
        key_block_(k.cols + v.cols <= 128 ? kMaxKeyBlock : kMaxKeyBlock / 2) {
    SoftmaxScratch<float> scratch(
        4, kMaxRows * (q_stride_ + 2 * o_stride_ + kStride));
    q_ = scratch.Take(kMaxRows * q_stride_);
    o_ = scratch.Take(kMaxRows * o_stride_);
    block_o_ = scratch.Take(kMaxRows * o_stride_);
    weights_ = scratch.Take(kMaxRows * kStride);
  }

  // 0 < count <= kMaxRows.
  void Run(const Bf16Row* rows, size_t count) {
    rows_ = rows;
    count_ = count;
    size_t begin = rows[0].keys.begin, end = rows[0].keys.end;
    bool alike = true;
    for (size_t r = 0; r < count; ++r) {
      const KeyRange& keys = rows[r].keys;
      alike = alike && keys.begin == begin && keys.end == end;
      begin = std::min(begin, keys.begin);
      end = std::max(end, keys.end);
      SplitPairs(rows[r].q, k_.cols, factor_, q_ + r * q_stride_, q_stride_);
      // Finite, so that a score of -inf is never subtracted from itself.
      maximum_[r] = std::numeric_limits<float>::lowest();
      sum_[r] = 0;
    }
    std::fill_n(o_, count * o_stride_, 0.0f);
    for (size_t block = begin / key_block_ * key_block_; block < end;
         block += key_block_) {
      AddBlock(block, std::max(block, begin),
               std::min(block + key_block_, end));
    }
    for (size_t r = 0; r < count; ++r) Finish(r);
    if (alike) return;
    // A weight of 0 times a value that is not finite is NaN. Queries that do
    // not see such a value but share the block with it are done again, alone.
    for (size_t r = 0; r < count; ++r) {
      const float* const o = rows[r].o;
      if (std::any_of(o, o + v_.cols, [](float x) { return std::isnan(x); })) {
        Run(rows + r, 1);
      }
    }
  }

 private:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  using VU = hn::VFromD<hn::RebindToUnsigned<D>>;
  static constexpr size_t kN = kLanes<float>;
  // Of keys and values of width 64 this takes, with the next block's keys, 24
  // KiB; wider ones take shorter blocks, so that all stays in the first-level
  // cache.
  static constexpr size_t kMaxKeyBlock = 64;
  // Between rows of weights; the last group of scores may overrun the block.
  static constexpr size_t kStride =
      kMaxKeyBlock + RoundUp(kBlockLanes<float>, kN);
  // Keys whose dot products are summed across lanes together.
  static constexpr size_t kGroup = kBlockLanes<float>;

  // to[i] = factor times x's first numbers of pairs, then kN of the second, and
  // so on; zeros from n on.
  static void SplitPairs(const float* x, size_t n, float factor, float* to,
                         size_t padded) {
    std::fill_n(to, padded, 0.0f);
    for (size_t i = 0; i < n; ++i) to[SplitIndex(i)] = factor * x[i];
  }
  static size_t SplitIndex(size_t i) {
    return i / (2 * kN) * 2 * kN + i % 2 * kN + i % (2 * kN) / 2;
  }

  // kN pairs, or the first numbers of a row that ends, then zeros.
  static HWY_INLINE VU LoadPairs(const Bf16* from) {
    const hn::RebindToUnsigned<D> du;
#if HWY_TARGET == HWY_SCALAR
    uint32_t pair;  // not aligned as one
    std::memcpy(&pair, from, sizeof(pair));
    return hn::Set(du, pair);
#else
    return hn::LoadU(du, reinterpret_cast<const uint32_t*>(from));
#endif
  }
  static HWY_INLINE VU LoadSomePairs(const Bf16* from, size_t count) {
    HWY_ALIGN Bf16 padded[2 * kN];
    std::memcpy(padded, from, count * sizeof(Bf16));
    return LoadPairs(padded);
  }

  // Keys [begin, end) of the block of keys that starts at `block`.
  HWY_NOINLINE void AddBlock(size_t block, size_t begin, size_t end) {
    // Values are on their way while scores are computed, and the next block's
    // keys while values are summed.
    ForRows([&](auto rows, size_t r)
                HWY_ATTR { Scores<rows()>(r, block, begin, end); });
    float factors[kMaxRows];
    bool all_one = true;
    for (size_t r = 0; r < count_; ++r) {
      factors[r] = Weights(r, block, end);
      all_one = all_one && factors[r] == 1;
    }
    ForRows([&](auto rows, size_t r)
                HWY_ATTR { AddValues<rows()>(r, block, begin, end); });
    // A block's outputs are summed apart and then added: with thousands of keys
    // a single running sum would lose digits.
    const D d;
    for (size_t r = 0; r < count_; ++r) {
      const V factor = hn::Set(d, factors[r]);
      for (size_t c = r * o_stride_; c < (r + 1) * o_stride_; c += kN) {
        hn::Store(
            hn::MulAdd(hn::Load(d, o_ + c), factor, hn::Load(d, block_o_ + c)),
            d, o_ + c);
      }
    }
  }

  // body(rows at a time as a constant, first row).
  template <class Body>
  HWY_INLINE void ForRows(const Body& body) {
    size_t r = 0;
    for (; r + 4 <= count_; r += 4) {
      body(std::integral_constant<size_t, 4>(), r);
    }
    for (; r + 2 <= count_; r += 2) {
      body(std::integral_constant<size_t, 2>(), r);
    }
    if (r < count_) body(std::integral_constant<size_t, 1>(), r);
  }

  template <size_t kRows>
  HWY_NOINLINE void Scores(size_t row, size_t block, size_t begin, size_t end) {
    const D d;
    const float* const q = q_ + row * q_stride_;
    float* const scores = weights_ + row * kStride;
    const size_t whole = k_.cols / (2 * kN) * 2 * kN;
    for (size_t key = begin; key < end; key += kGroup) {
      const Bf16* k[kGroup];
      V sum[kRows][kGroup];
      HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
        // Beyond the end, the last key once more.
        k[g] = k_.row(std::min(key + g, end - 1));
        HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
          sum[r][g] = hn::Zero(d);
        }
        if (row == 0) PrefetchRow(v_, key + g);
      }
      for (size_t c = 0; c < whole; c += 2 * kN) {
        VU pairs[kGroup];
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          pairs[g] = LoadPairs(k[g] + c);
        }
        AddDots<kRows>(q + c, pairs, sum);
      }
      if (whole != k_.cols) {
        VU pairs[kGroup];
        HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
          pairs[g] = LoadSomePairs(k[g] + whole, k_.cols - whole);
        }
        AddDots<kRows>(q + whole, pairs, sum);
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        StoreSumsOfLanes(sum[r], scores + r * kStride + key - block);
      }
    }
  }

  template <size_t kRows>
  HWY_INLINE void AddDots(const float* HWY_RESTRICT q, const VU* pairs,
                          V (&sum)[kRows][kGroup]) const {
    const D d;
    HWY_UNROLL(8) for (size_t g = 0; g < kGroup; ++g) {
      const V first = FirstOfPairs(d, pairs[g]);
      const V second = SecondOfPairs(d, pairs[g]);
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        const float* const q_r = q + r * q_stride_;
        sum[r][g] = hn::MulAdd(hn::Load(d, q_r), first, sum[r][g]);
        sum[r][g] = hn::MulAdd(hn::Load(d, q_r + kN), second, sum[r][g]);
      }
    }
  }

  // Turns a query's scores, of which those that it sees in [block, end) exist,
  // into weights relative to the maximum so far. Returns the factor that takes
  // earlier weights there.
  HWY_NOINLINE float Weights(size_t row, size_t block, size_t end) {
    constexpr float kInf = std::numeric_limits<float>::infinity();
    const D d;
    const KeyRange& keys = rows_[row].keys;
    float* const weights = weights_ + row * kStride;
    const size_t padded = RoundUp(end - block, kN);
    const size_t first = std::min(std::max(keys.begin, block), end);
    const size_t last = std::max(std::min(keys.end, end), first);
    std::fill(weights, weights + (first - block), -kInf);
    std::fill(weights + (last - block), weights + padded, -kInf);

    V max = hn::Set(d, maximum_[row]);
    for (size_t i = 0; i < padded; i += kN) {
      max = hn::Max(max, hn::Load(d, weights + i));
    }
    max = hn::MaxOfLanes(d, max);
    V sum = hn::Zero(d);
    for (size_t i = 0; i < padded; i += kN) {
      const V weight =
          FastExp2NonPositive(d, hn::Sub(hn::Load(d, weights + i), max));
      hn::Store(weight, d, weights + i);
      sum = hn::Add(sum, weight);
    }
    const float factor = hn::GetLane(
        FastExp2NonPositive(d, hn::Sub(hn::Set(d, maximum_[row]), max)));
    sum_[row] = sum_[row] * factor + hn::GetLane(hn::SumOfLanes(d, sum));
    maximum_[row] = hn::GetLane(max);
    return factor;
  }

  // block_o_ = weights times values, for keys [begin, end).
  template <size_t kRows>
  HWY_NOINLINE void AddValues(size_t row, size_t block, size_t begin,
                              size_t end) {
    const float* const weights = weights_ + row * kStride + (begin - block);
    float* const to = block_o_ + row * o_stride_;
    const size_t whole = v_.cols / (2 * kN) * 2 * kN;
    // As many sums as fill the pipes.
    constexpr size_t kVecs = kRows == 1 ? 4 : 2;
    size_t c = 0;
    for (; c + kVecs * 2 * kN <= whole; c += kVecs * 2 * kN) {
      AddValueColumns<kRows, kVecs>(weights, begin, end, c, 2 * kN, to + c,
                                    row == 0 && c == 0);
    }
    for (; c + 2 * 2 * kN <= whole; c += 2 * 2 * kN) {
      AddValueColumns<kRows, 2>(weights, begin, end, c, 2 * kN, to + c,
                                row == 0 && c == 0);
    }
    if (c < whole) {
      AddValueColumns<kRows, 1>(weights, begin, end, c, 2 * kN, to + c,
                                row == 0 && c == 0);
      c += 2 * kN;
    }
    if (c < v_.cols) {
      AddValueColumns<kRows, 1>(weights, begin, end, c, v_.cols - c, to + c,
                                row == 0 && c == 0);
    }
  }

  // kVecs vectors of pairs from column c on, the last with `count` numbers.
  template <size_t kRows, size_t kVecs>
  HWY_INLINE void AddValueColumns(const float* HWY_RESTRICT weights,
                                  size_t begin, size_t end, size_t c,
                                  size_t count, float* HWY_RESTRICT to,
                                  bool prefetch) const {
    const D d;
    V sum[kRows][2 * kVecs];
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t i = 0; i < 2 * kVecs; ++i) {
        sum[r][i] = hn::Zero(d);
      }
    }
    for (size_t key = begin; key < end; ++key) {
      if (prefetch) PrefetchRow(k_, key + key_block_);
      const Bf16* const v = v_.row(key) + c;
      V part[2 * kVecs];
      HWY_UNROLL(8) for (size_t i = 0; i < kVecs; ++i) {
        const VU pairs = count == 2 * kN ? LoadPairs(v + i * 2 * kN)
                                         : LoadSomePairs(v, count);
        part[2 * i] = FirstOfPairs(d, pairs);
        part[2 * i + 1] = SecondOfPairs(d, pairs);
      }
      HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
        const V weight = hn::Set(d, weights[r * kStride + key - begin]);
        HWY_UNROLL(8) for (size_t i = 0; i < 2 * kVecs; ++i) {
          sum[r][i] = hn::MulAdd(weight, part[i], sum[r][i]);
        }
      }
    }
    HWY_UNROLL(8) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(8) for (size_t i = 0; i < 2 * kVecs; ++i) {
        hn::Store(sum[r][i], d, to + r * o_stride_ + i * kN);
      }
    }
  }

  // The whole row, of which the cache lines come one after the other.
  static HWY_INLINE void PrefetchRow(const MatrixView<const Bf16>& m,
                                     size_t row) {
    if (row >= m.rows) return;
    constexpr size_t kCacheLine = 64 / sizeof(Bf16);
    for (size_t c = 0; c < m.cols; c += kCacheLine) {
      hwy::Prefetch(m.row(row) + c);
    }
  }

  void Finish(size_t row) const {
    const Bf16Row& r = rows_[row];
    const bool blind = r.keys.empty();
    for (size_t c = 0; c < v_.cols; ++c) {
      r.o[c] = blind ? 0 : o_[row * o_stride_ + SplitIndex(c)] / sum_[row];
    }
  }

  const MatrixView<const Bf16> k_, v_;
  const float factor_;
  const size_t q_stride_, o_stride_;
  const size_t key_block_;
  float* q_;        // [kMaxRows][q_stride_], scaled and split into pairs
  float* o_;        // [kMaxRows][o_stride_], split, relative to maximum_
  float* block_o_;  // likewise, of one block of keys
  float* weights_;  // [kMaxRows][kStride], before that scores
  const Bf16Row* rows_ = nullptr;
  size_t count_ = 0;
  float maximum_[kMaxRows];
  float sum_[kMaxRows];
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BF16_ROWS_INL_H_
