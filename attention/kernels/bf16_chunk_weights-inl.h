// SPDX-License-Identifier: Apache-2.0
//
// Decays and weights in a chunk of bf16_chunks-inl.h. Between query i and a key
// j of an earlier block of tokens the decay is that from j to the block's start
// times that from there to i, each at most 1; only within a block it takes an
// exponential for every score.

#if defined(MNEME_ATTENTION_KERNELS_BF16_CHUNK_WEIGHTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_BF16_CHUNK_WEIGHTS_INL_H_
#undef MNEME_ATTENTION_KERNELS_BF16_CHUNK_WEIGHTS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_BF16_CHUNK_WEIGHTS_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

class ChunkWeights {
 public:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr size_t kN = hn::MaxLanes(D());
  static constexpr size_t kChunk = 64;
  static constexpr size_t kBlock = std::max(size_t{16}, kN);
  static constexpr size_t kRows = 4;  // queries that are weighed together

  explicit ChunkWeights(float scale) : scale_(scale) {}

  // By tokens: the decay from the chunk's start to behind each, times the
  // scale; from there to the chunk's end; and the decay across all of it.
  const float* from_start() const { return from_start_; }
  const float* to_end() const { return to_end_; }
  float across() const { return across_; }

  // Of a chunk of `length` tokens; log_decay may be null. A token keeps at
  // least 2^-128, which is nothing among floats, so that after a reset
  // differences are still numbers.
  HWY_NOINLINE void FindDecays(const float* log_decay, size_t length) {
    constexpr float kLog2E = 1.44269504f, kNothing = -128;
    const D d;
    float sum = 0;
    for (size_t t = 0; t < kChunk; ++t) {
      if (log_decay != nullptr && t < length) {
        sum += std::max(log_decay[t] * kLog2E, kNothing);
      }
      to_[t] = sum;
    }
    const V scale = hn::Set(d, scale_);
    for (size_t t = 0; t < kChunk; t += kN) {
      const V to = hn::Load(d, to_ + t);
      hn::Store(hn::Mul(scale, FastExp2NonPositive(d, to)), d, from_start_ + t);
      hn::Store(FastExp2NonPositive(d, hn::Sub(hn::Set(d, sum), to)), d,
                to_end_ + t);
    }
    across_ = hn::GetLane(FastExp2NonPositive(d, hn::Set(d, sum)));
  }

  // Before weights with decays of queries [block, block + kBlock).
  HWY_INLINE void Start(size_t block) {
    const D d;
    const V start = hn::Set(d, block == 0 ? 0.0f : to_[block - 1]);
    for (size_t key = 0; key < block; key += kN) {
      const V to = hn::Sub(start, hn::Load(d, to_ + key));
      hn::Store(FastExp2NonPositive(d, to), d, to_block_ + key);
    }
    for (size_t i = block; i < block + kBlock; i += kN) {
      const V to = hn::Sub(hn::Load(d, to_ + i), start);
      hn::Store(hn::Mul(hn::Set(d, scale_), FastExp2NonPositive(d, to)), d,
                from_block_ + i);
    }
  }

  // Of kRows queries from `row` on, whose scores are given, with a vector of
  // keys before their block. Without decays scores are weights.
  template <bool kDecays>
  HWY_INLINE void Earlier(const float* scores, size_t stride, size_t row,
                          size_t key, V* HWY_RESTRICT weights) const {
    const D d;
    HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
      weights[r] = hn::Load(d, scores + r * stride + key);
      if (!kDecays) continue;
      weights[r] = hn::Mul(hn::Mul(weights[r], hn::Load(d, to_block_ + key)),
                           hn::Set(d, from_block_[row + r]));
    }
  }

  // With a vector of keys of their own block.
  template <bool kDecays>
  HWY_INLINE void Own(const float* scores, size_t stride, size_t row,
                      size_t key, V* HWY_RESTRICT weights) const {
    const D d;
    if (kDecays) {
      HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
        weights[r] = hn::Sub(hn::Set(d, to_[row + r]), hn::Load(d, to_ + key));
      }
      // Above 0 for hidden keys, of which nothing is used.
      CoarseExp2NonPositive<kRows>(d, weights);
    }
    const V keys = hn::Iota(d, static_cast<float>(key));
    HWY_UNROLL(4) for (size_t r = 0; r < kRows; ++r) {
      V weight = hn::Load(d, scores + r * stride + key);
      if (kDecays) {
        weight = hn::Mul(hn::Mul(weight, hn::Set(d, scale_)), weights[r]);
      }
      const V query = hn::Set(d, static_cast<float>(row + r));
      weights[r] = hn::IfThenElseZero(hn::Le(keys, query), weight);
    }
  }

 private:
  const float scale_;
  float across_ = 1;
  // Decays from the chunk's start, in powers of 2.
  HWY_ALIGN float to_[kChunk];
  HWY_ALIGN float from_start_[kChunk];
  HWY_ALIGN float to_end_[kChunk];
  HWY_ALIGN float to_block_[kChunk];
  HWY_ALIGN float from_block_[kChunk];
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BF16_CHUNK_WEIGHTS_INL_H_
