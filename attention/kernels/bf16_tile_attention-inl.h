// SPDX-License-Identifier: Apache-2.0
//
// Attention over Bf16 keys and values for many queries, on a Bf16Unit. As in
// softmax_forward-inl.h queries are kept in lanes: scores, weights and outputs
// are computed transposed,
//
//   S^T = K Q^T,   O^T += V^T P^T,
//
// so that keys are A as they lie in memory, P^T becomes B by joining two rows
// of weights, and the softmax needs no operation across lanes. Keys and
// transposed values are packed once for all queries of all heads that share
// them.

#if defined(MNEME_ATTENTION_KERNELS_BF16_TILE_ATTENTION_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_BF16_TILE_ATTENTION_INL_H_
#undef MNEME_ATTENTION_KERNELS_BF16_TILE_ATTENTION_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_BF16_TILE_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_product.h"
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

class Bf16TileAttention {
 public:
  Bf16TileAttention(const Bf16Unit& unit, MatrixView<const Bf16> k,
                    MatrixView<const Bf16> v, float scale,
                    const AttentionMask& mask)
      : unit_(unit),
        keys_(k.rows),
        key_dim_(k.cols),
        value_dim_(v.cols),
        key_depth_(RoundUp(k.cols, kBf16Step)),
        value_rows_(RoundUp(v.cols, kBf16Rows)),
        mask_(mask),
        // The maximum of scores is that of scaled ones for positive factors
        // only; a sign or a zero goes into the queries.
        q_factor_(scale > 0   ? 1.0f
                  : scale < 0 ? -1.0f
                              : 0.0f),
        factor_(scale == 0 ? 1.0f : std::abs(scale) * kLog2E) {
    const size_t rows = RoundUp(keys_, kBf16Step);
    SoftmaxScratch<uint32_t> packed(
        3, rows / 2 * (key_depth_ + value_rows_) + kQueries * key_depth_ / 2);
    packed_k_ = reinterpret_cast<Bf16*>(packed.Take(rows / 2 * key_depth_));
    packed_v_ = packed.Take(rows / 2 * value_rows_);
    q_ = packed.Take(kQueries * key_depth_ / 2);
    SoftmaxScratch<float> scratch(
        4, (kKeyBlock + kKeyBlock / 2 + value_rows_ + key_depth_) * kQueries);
    scores_ = scratch.Take(kKeyBlock * kQueries);
    weights_ =
        reinterpret_cast<uint32_t*>(scratch.Take(kKeyBlock / 2 * kQueries));
    o_ = scratch.Take(value_rows_ * kQueries);
    q_rows_ = scratch.Take(key_depth_ * kQueries);
    // Rows beyond key_dim stay zeros.
    std::fill_n(q_rows_, key_depth_ * kQueries, 0.0f);
    PackKeys(k);
    PackValues(v);
  }

  void Run(MatrixView<const float> q, MatrixView<float> o) {
    for (size_t first = 0; first < q.rows; first += kQueries) {
      RunTile(q, first, std::min(kQueries, q.rows - first), o);
    }
  }

 private:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr float kLog2E = 1.44269504f;
  static constexpr size_t kN = kLanes<float>;
  static constexpr size_t kQueries = kBf16Columns;
  static constexpr size_t kVecs = kQueries / kN;
  static constexpr size_t kKeyBlock = 128;
  // Vectors of scores that become weights together.
  static constexpr size_t kTogether = kVecs < 2 ? 1 : 2;

  void PackKeys(const MatrixView<const Bf16>& k) {
    const size_t rows = RoundUp(keys_, kBf16Step);
    for (size_t r = 0; r < rows; ++r) {
      Bf16* const to = packed_k_ + r * key_depth_;
      const size_t cols = r < keys_ ? key_dim_ : 0;
      if (cols != 0) std::memcpy(to, k.row(r), cols * sizeof(Bf16));
      std::fill(to + cols, to + key_depth_, Bf16());
    }
  }

  // Transposed, in steps of 32 keys.
  void PackValues(const MatrixView<const Bf16>& v) {
    constexpr size_t kPairs = kBf16Step / 2;
    for (size_t step = 0; step < keys_; step += kBf16Step) {
      uint32_t* const to = packed_v_ + step / 2 * value_rows_;
      for (size_t p = 0; p < kPairs; ++p) {
        const size_t row = step + 2 * p;
        const Bf16* const first = row < keys_ ? v.row(row) : nullptr;
        const Bf16* const second = row + 1 < keys_ ? v.row(row + 1) : nullptr;
        for (size_t c = 0; c < value_dim_; ++c) {
          const uint32_t low = first == nullptr ? 0 : first[c].bits;
          const uint32_t high = second == nullptr ? 0 : second[c].bits;
          to[c * kPairs + p] = low | high << 16;
        }
        for (size_t c = value_dim_; c < value_rows_; ++c)
          to[c * kPairs + p] = 0;
      }
    }
  }

  // Queries [first, first + count) become columns of pairs; further columns
  // are zeros.
  void PackQueries(const MatrixView<const float>& q, size_t first,
                   size_t count) {
    const D d;
    const hn::RebindToUnsigned<D> du;
    if (count != kQueries) std::fill_n(q_rows_, key_depth_ * kQueries, 0.0f);
    Transpose<Old::kIgnore>(q.row(first), q.stride, count, key_dim_, q_factor_,
                            q_rows_, kQueries);
    for (size_t p = 0; p < key_depth_ / 2; ++p) {
      const float* const rows = q_rows_ + 2 * p * kQueries;
      for (size_t i = 0; i < kQueries; i += kN) {
        const auto low = RoundedBits(d, hn::Load(d, rows + i));
        const auto high = RoundedBits(d, hn::Load(d, rows + kQueries + i));
        hn::Store(hn::Or(low, hn::ShiftLeft<16>(high)), du,
                  q_ + p * kQueries + i);
      }
    }
  }

  void RunTile(const MatrixView<const float>& q, size_t first, size_t count,
               const MatrixView<float>& o) {
    const size_t last = first + count - 1;
    const size_t begin = VisibleKeys(mask_, keys_, first).begin;
    const size_t end = VisibleKeys(mask_, keys_, last).end;
    const D d;
    for (size_t i = 0; i < kQueries; i += kN) {
      hn::Store(hn::Set(d, std::numeric_limits<float>::lowest()), d,
                maximum_ + i);
      hn::Store(hn::Zero(d), d, sum_ + i);
    }
    if (begin >= end) {  // no query sees any key
      std::fill_n(o_, value_rows_ * kQueries, 0.0f);
      return Finish(first, count, o);
    }
    PackQueries(q, first, count);
    // Blocks and steps start at multiples of their lengths, not at the first
    // key in sight: so the roundings of a query do not depend on others.
    const size_t last_step = RoundUp(end, kBf16Step);
    const auto block_at = [&](size_t at) {
      return Block{at,
                   std::min(at / kKeyBlock * kKeyBlock + kKeyBlock, last_step)};
    };
    const size_t first_step = begin / kBf16Step * kBf16Step;
    Block block = block_at(first_step);
    Score(block, 0, block.keys());
    while (block.begin < end) {
      const Block next = block_at(block.end);
      AddKeys(first, last, block, next, block.begin == first_step);
      block = next;
    }
    Finish(first, count, o);
  }

  // Keys [begin, end), whole steps.
  struct Block {
    size_t begin, end;
    size_t keys() const { return end - begin; }
  };

  // Rows [from, to) of the block's scores, which lie in those of scores_.
  HWY_INLINE void Score(const Block& block, size_t from, size_t to) {
    unit_.multiply(
        {to - from,
         key_depth_,
         {packed_k_ + (block.begin + from) * key_depth_, key_depth_, kBf16Step},
         {q_, kQueries},
         scores_ + from * kQueries,
         kQueries,
         /*add=*/false});
  }

  // Has the block's scores in scores_ and leaves the next one's there. These
  // are computed where weights have just been made of old ones: a matrix unit
  // works while vectors do, if what each has to do stands close together.
  HWY_NOINLINE void AddKeys(size_t first, size_t last, const Block& block,
                            const Block& next, bool is_first) {
    for (size_t vec = 0; vec < kVecs; ++vec) {
      const size_t first_lane = std::min(first + vec * kN, last);
      const VectorKeys seen(mask_, keys_, first_lane,
                            std::min(first_lane + kN - 1, last));
      MaskScores(mask_, seen, block.begin, block.end, scores_ + vec * kN,
                 kQueries);
      // Past the last key, whatever the mask: scores of zeros.
      for (size_t key = std::max(block.begin, keys_); key < block.end; ++key) {
        const D d;
        hn::Store(hn::Neg(hn::Inf(d)), d,
                  scores_ + (key - block.begin) * kQueries + vec * kN);
      }
    }
    for (size_t vec = 0; vec < kVecs; vec += kTogether) {
      RaiseMaximum(vec * kN, block.keys(), is_first);
    }
    size_t scored = 0;
    for (size_t key = 0; key < block.keys(); key += kBf16Step) {
      for (size_t vec = 0; vec < kVecs; vec += kTogether) {
        Weigh(vec * kN, key);
      }
      const size_t free = key + kBf16Step;
      const size_t to =
          free < block.keys() ? std::min(free, next.keys()) : next.keys();
      if (scored < to) Score(next, scored, to);
      scored = std::max(scored, to);
    }
    unit_.multiply({value_rows_,
                    block.keys(),
                    {reinterpret_cast<const Bf16*>(packed_v_ + block.begin / 2 *
                                                                   value_rows_),
                     kBf16Step, value_rows_ * kBf16Step},
                    {weights_, kQueries},
                    o_,
                    kQueries,
                    /*add=*/!is_first});
  }

  // The greatest score so far of kTogether vectors of queries from lane `lane`
  // on; brings sums and outputs of earlier keys there.
  HWY_INLINE void RaiseMaximum(size_t lane, size_t keys, bool is_first) {
    const D d;
    const float* const scores = scores_ + lane;
    const V factor = hn::Set(d, factor_);
    // Chains enough for the latency of a maximum, 4 cycles on Intel.
    constexpr size_t kRows = 4;
    V greatest[kTogether][kRows];
    HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
      HWY_UNROLL(2) for (size_t i = 0; i < kTogether; ++i) {
        greatest[i][r] = hn::Load(d, scores + r * kQueries + i * kN);
      }
    }
    for (size_t key = kRows; key < keys; key += kRows) {
      HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
        HWY_UNROLL(2) for (size_t i = 0; i < kTogether; ++i) {
          const float* const at = scores + (key + r) * kQueries + i * kN;
          greatest[i][r] = hn::Max(greatest[i][r], hn::Load(d, at));
        }
      }
    }
    HWY_UNROLL(2) for (size_t i = 0; i < kTogether; ++i) {
      const V low = hn::Max(greatest[i][0], greatest[i][2]);
      const V high = hn::Max(greatest[i][1], greatest[i][3]);
      // Finite, so that a score of -inf is never subtracted from itself.
      const V old = hn::Load(d, maximum_ + lane + i * kN);
      const V top = hn::Max(hn::Mul(factor, hn::Max(low, high)), old);
      hn::Store(top, d, maximum_ + lane + i * kN);
      if (is_first || hn::AllFalse(d, hn::Gt(top, old))) continue;
      const V shrink = FastExp2NonPositive(d, hn::Sub(old, top));
      float* const sum = sum_ + lane + i * kN;
      hn::Store(hn::Mul(hn::Load(d, sum), shrink), d, sum);
      for (size_t c = 0; c < value_rows_ * kQueries; c += kQueries) {
        float* const at = o_ + c + lane + i * kN;
        hn::Store(hn::Mul(shrink, hn::Load(d, at)), d, at);
      }
    }
  }

  // Turns scores of one step of keys, from `begin` on, and of kTogether vectors
  // of queries from lane `lane` on into weights relative to the maximum.
  HWY_INLINE void Weigh(size_t lane, size_t begin) {
    const D d;
    const float* const scores = scores_ + lane;
    const V factor = hn::Set(d, factor_);
    V top[kTogether], sum[kTogether];
    HWY_UNROLL(2) for (size_t i = 0; i < kTogether; ++i) {
      top[i] = hn::Load(d, maximum_ + lane + i * kN);
      sum[i] = hn::Load(d, sum_ + lane + i * kN);
    }
    constexpr size_t kKeys = 4;
    for (size_t key = begin; key < begin + kBf16Step; key += kKeys) {
      V weight[kKeys * kTogether];
      HWY_UNROLL(8) for (size_t i = 0; i < kKeys * kTogether; ++i) {
        const size_t at = (key + i / kTogether) * kQueries + i % kTogether * kN;
        // Not fused: rounded as the maximum was, no score exceeds it, which
        // for huge ones is more than a rounding of the weight.
        const V scaled = hn::Mul(hn::Load(d, scores + at), factor);
        weight[i] = hn::Sub(scaled, top[i % kTogether]);
      }
      CoarseExp2NonPositive<kKeys * kTogether>(d, weight);
      HWY_UNROLL(4) for (size_t i = 0; i < kTogether; ++i) {
        HWY_UNROLL(4) for (size_t r = 0; r < kKeys; r += 2) {
          const V w0 = weight[r * kTogether + i];
          const V w1 = weight[(r + 1) * kTogether + i];
          sum[i] = hn::Add(sum[i], hn::Add(w0, w1));
          hn::Store(PairsOfWeights(d, w0, w1), hn::RebindToUnsigned<D>(),
                    weights_ + (key + r) / 2 * kQueries + lane + i * kN);
        }
      }
    }
    HWY_UNROLL(2) for (size_t i = 0; i < kTogether; ++i) {
      hn::Store(sum[i], d, sum_ + lane + i * kN);
    }
  }

  // Divides by the sums and stores; a query that sees no key gets zeros.
  void Finish(size_t first, size_t count, const MatrixView<float>& o) {
    const D d;
    for (size_t i = 0; i < kQueries; i += kN) {
      const V sum = hn::Load(d, sum_ + i);
      const V inverse = hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(d)),
                                           hn::Div(hn::Set(d, 1.0f), sum));
      for (size_t c = 0; c < value_dim_ * kQueries; c += kQueries) {
        hn::Store(hn::Mul(hn::Load(d, o_ + c + i), inverse), d, o_ + c + i);
      }
    }
    Transpose<Old::kIgnore>(o_, kQueries, value_dim_, count, 1.0f, o.row(first),
                            o.stride);
  }

  const Bf16Unit& unit_;
  const size_t keys_, key_dim_, value_dim_;
  const size_t key_depth_;   // key_dim in whole steps
  const size_t value_rows_;  // value_dim in whole groups of rows
  const AttentionMask mask_;
  const float q_factor_, factor_;
  Bf16* packed_k_;      // [keys in whole steps][key_depth_]
  uint32_t* packed_v_;  // [steps of keys][value_rows_][16], pairs of keys
  uint32_t* q_;         // [key_depth_ / 2][kQueries], pairs
  float* q_rows_;       // [key_depth_][kQueries], transposed queries
  float* scores_;       // [kKeyBlock][kQueries]
  uint32_t* weights_;   // [kKeyBlock / 2][kQueries], pairs
  float* o_;            // [value_rows_][kQueries], relative to maximum_
  // The greatest score so far, times factor_, and the sum of weights relative
  // to it.
  HWY_ALIGN float maximum_[kQueries];
  HWY_ALIGN float sum_[kQueries];
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BF16_TILE_ATTENTION_INL_H_
