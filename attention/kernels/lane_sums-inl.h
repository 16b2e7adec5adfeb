// SPDX-License-Identifier: Apache-2.0
//
// Sums over the lanes of several vectors at once, to be inlined into kernels.

#if defined(MNEME_ATTENTION_KERNELS_LANE_SUMS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_LANE_SUMS_INL_H_
#undef MNEME_ATTENTION_KERNELS_LANE_SUMS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_LANE_SUMS_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Elements of a 128-bit block, within which all targets can permute.
template <typename T>
constexpr size_t kBlockLanes = hn::MaxLanes(hn::ScalableTag<T>()) == 1
                                   ? 1
                                   : 16 / sizeof(T);

#if HWY_TARGET != HWY_SCALAR
// The sum of a vector's 128-bit blocks.
template <class D, class V>
HWY_INLINE auto SumOfBlocks(D d, V v) {
  if constexpr (hn::MaxLanes(d) <= kBlockLanes<hn::TFromD<D>>) {
    return v;
  } else {
    const hn::Half<D> half;
    return SumOfBlocks(half,
                       hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}
#endif

// Stores to[i] = sum of the lanes of v[i] for kBlockLanes vectors: together
// they need a third of the operations that they would one by one.
template <typename T, class V>
HWY_INLINE void StoreSumsOfLanes(const V* v, T* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(v[0]);
#else
  const hn::ScalableTag<T> d;
  const hn::FixedTag<T, kBlockLanes<T>> block;
  const auto add_pairs = [&](V a, V b) HWY_ATTR {
    return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  };
  if constexpr (kBlockLanes<T> == 4) {
    const V even = add_pairs(v[0], v[2]);
    const V odd = add_pairs(v[1], v[3]);
    hn::StoreU(SumOfBlocks(d, add_pairs(even, odd)), block, to);
  } else {
    hn::StoreU(SumOfBlocks(d, add_pairs(v[0], v[1])), block, to);
  }
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_LANE_SUMS_INL_H_
