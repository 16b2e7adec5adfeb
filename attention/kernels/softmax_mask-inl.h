// SPDX-License-Identifier: Apache-2.0
//
// Which keys queries see, and the cutting of work that follows from it, shared
// by the forward and the backward pass of softmax attention.
//
// Both keep queries in lanes: a matrix "per lane" has a row for each key (or
// column of a head) and a column for each query. Two vectors of queries make a
// pair; a pair and a block of keys make a tile of scores. Along the causal
// diagonal the first vector of a pair sees fewer keys than the second, so tiles
// are computed in two sections: keys of both vectors, then those of the second.

#if defined(MNEME_ATTENTION_KERNELS_SOFTMAX_MASK_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SOFTMAX_MASK_INL_H_
#undef MNEME_ATTENTION_KERNELS_SOFTMAX_MASK_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SOFTMAX_MASK_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "attention/kernels/softmax_attention.h"
#include "attention/kernels/softmax_internal.h"
#include "attention/kernels/softmax_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The keys that concern one vector of queries [first, last].
struct VectorKeys {
  VectorKeys() = default;
  VectorKeys(const AttentionMask& mask, size_t keys, size_t first, size_t last)
      : position(mask.query_offset + first) {
    const KeyRange of_first = VisibleKeys(mask, keys, first);
    const KeyRange of_last = VisibleKeys(mask, keys, last);
    some = {of_first.begin, of_last.end};
    all = {of_last.begin, std::max(of_first.end, of_last.begin)};
  }

  size_t position = 0;     // of the first query
  KeyRange some = {0, 0};  // keys that at least one query sees
  KeyRange all = {0, 0};   // keys that all queries see
};

// Sets to -inf the scores of keys [begin, end) that lanes do not see. The row
// of scores of key `origin` is at `scores`.
template <typename T>
HWY_INLINE void MaskKeys(const AttentionMask& mask, const VectorKeys& vector,
                         size_t begin, size_t end, size_t origin, T* scores,
                         size_t stride) {
  const hn::ScalableTag<T> d;
  const auto minus_inf = hn::Neg(hn::Inf(d));
  const auto lane = hn::Iota(d, T{0});
  constexpr size_t kLongest = size_t{1} << 62;  // leaves room for sums
  const ptrdiff_t window =
      static_cast<ptrdiff_t>(std::min(mask.window, kLongest));
  for (size_t key = begin; key < end; ++key) {
    T* const row = scores + (key - origin) * stride;
    // Positions are compared relative to lane 0's, where T is exact.
    const ptrdiff_t relative = static_cast<ptrdiff_t>(key - vector.position);
    auto score = hn::Load(d, row);
    if (mask.causal) {
      score = hn::IfThenElse(hn::Ge(lane, hn::Set(d, static_cast<T>(relative))),
                             score, minus_inf);
    }
    if (mask.window != 0) {
      // The first lane that has the key behind its window.
      const T blind = static_cast<T>(relative + window);
      score = hn::IfThenElse(hn::Lt(lane, hn::Set(d, blind)), score, minus_inf);
    }
    hn::Store(score, d, row);
  }
}

// The same, visiting only keys that some lane does not see. The row of scores
// of key `begin` is at `scores`.
template <typename T>
HWY_INLINE void MaskScores(const AttentionMask& mask, const VectorKeys& vector,
                           size_t begin, size_t end, T* scores, size_t stride) {
  const size_t all_begin = std::min(std::max(vector.all.begin, begin), end);
  const size_t all_end = std::min(std::max(vector.all.end, all_begin), end);
  MaskKeys(mask, vector, begin, all_begin, begin, scores, stride);
  MaskKeys(mask, vector, all_end, end, begin, scores, stride);
}

// Part of a tile of scores: keys [begin, end) and the vectors from `vec` on.
struct Section {
  size_t begin;
  size_t end;
  size_t vec;
};

// Calls body(section, number of vectors as a constant) for the sections of keys
// [begin, end) and `vecs` (1 or 2) vectors, of which the first sees no key from
// first_end on.
template <class Body>
HWY_INLINE void ForEachSection(size_t begin, size_t end, size_t first_end,
                               size_t vecs, const Body& body) {
  constexpr std::integral_constant<size_t, 1> kOne;
  constexpr std::integral_constant<size_t, 2> kTwo;
  if (vecs == 1) return body(Section{begin, end, 0}, kOne);
  const size_t middle = std::min(std::max(first_end, begin), end);
  if (begin < middle) body(Section{begin, middle, 0}, kTwo);
  if (middle < end) body(Section{middle, end, 1}, kOne);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_MASK_INL_H_
