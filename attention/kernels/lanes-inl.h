// SPDX-License-Identifier: Apache-2.0
//
// Loops over arrays whose length need not be a multiple of the vector, to be
// inlined into kernels:
//
//   ForEachVector(d, n, [&](size_t i, const auto& lanes) HWY_ATTR {
//     lanes.Store(hn::Neg(lanes.Load(x + i)), y + i);
//   });
//
// runs the body with AllLanes for whole vectors and once with FirstLanes for
// what is left. Neither touches memory outside the array, so arguments need no
// padding.
//
// A body that GCC does not inline (often that of FirstLanes, which runs once)
// forces every vector that the lambda captures out of registers. So functions
// that do this in a hot loop are HWY_FLATTEN, and kept small, because GCC stops
// flattening in large ones: no call of operator() should be left in the loop.

#if defined(MNEME_ATTENTION_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_LANES_INL_H_
#undef MNEME_ATTENTION_KERNELS_LANES_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_LANES_INL_H_
#endif

#include <cstddef>
#include <type_traits>
#include <utility>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Access to a whole vector.
template <class D>
struct AllLanes {
  using T = hn::TFromD<D>;
  using V = hn::VFromD<D>;

  HWY_INLINE V Load(const T* from) const { return hn::LoadU(D(), from); }
  HWY_INLINE void Store(V v, T* to) const { hn::StoreU(v, D(), to); }
  HWY_INLINE V Keep(V v) const { return v; }
  HWY_INLINE V KeepElse(V v, V /*outside*/) const { return v; }
};

// Access to the first count lanes, 0 < count < Lanes(d). The others load as
// zero and are not stored; Keep() sets them to zero, KeepElse() to something
// else.
template <class D>
struct FirstLanes {
  using T = hn::TFromD<D>;
  using V = hn::VFromD<D>;

  size_t count;

  HWY_INLINE V Load(const T* from) const {
#if HWY_MEM_OPS_MIGHT_FAULT
    // Without masked loads the remainder goes through a padded copy.
    HWY_ALIGN T padded[hn::MaxLanes(D())] = {};
    for (size_t i = 0; i < count; ++i) padded[i] = from[i];
    return hn::Load(D(), padded);
#else
    return hn::MaskedLoad(hn::FirstN(D(), count), D(), from);
#endif
  }

  HWY_INLINE void Store(V v, T* to) const {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN T padded[hn::MaxLanes(D())];
    hn::Store(v, D(), padded);
    for (size_t i = 0; i < count; ++i) to[i] = padded[i];
#else
    hn::BlendedStore(v, hn::FirstN(D(), count), D(), to);
#endif
  }

  HWY_INLINE V Keep(V v) const {
    return hn::IfThenElseZero(hn::FirstN(D(), count), v);
  }

  HWY_INLINE V KeepElse(V v, V outside) const {
    return hn::IfThenElse(hn::FirstN(D(), count), v, outside);
  }
};

// Calls body(i, lanes) for i = 0, Lanes(d), ... < n.
template <class D, class Body>
HWY_INLINE void ForEachVector(D d, size_t n, const Body& body) {
  const size_t step = hn::Lanes(d);
  size_t i = 0;
  for (; i + step <= n; i += step) body(i, AllLanes<D>());
  if (i < n) body(i, FirstLanes<D>{n - i});
}

// Folds an array into one vector: state = fold(state, i, lanes) for each
// vector, in four interleaved chains that begin with init, which merge(a, b)
// joins at the end. A multiply-add takes four cycles, but two start in each.
// fold must leave the lanes outside the array alone, where Load() is zero.
template <class D, class V, class Fold, class Merge>
HWY_INLINE V FoldVectors(D d, size_t n, V init, const Fold& fold,
                         const Merge& merge) {
  const size_t step = hn::Lanes(d);
  V state0 = init, state1 = init, state2 = init, state3 = init;
  size_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    state0 = fold(state0, i, AllLanes<D>());
    state1 = fold(state1, i + step, AllLanes<D>());
    state2 = fold(state2, i + 2 * step, AllLanes<D>());
    state3 = fold(state3, i + 3 * step, AllLanes<D>());
  }
  for (; i + step <= n; i += step) state0 = fold(state0, i, AllLanes<D>());
  if (i < n) state1 = fold(state1, i, FirstLanes<D>{n - i});
  return merge(merge(state0, state1), merge(state2, state3));
}

// The sum over all lanes of what add(sum, i, lanes) accumulates; see
// FoldVectors.
template <class D, class Add>
HWY_INLINE hn::TFromD<D> SumVectors(D d, size_t n, const Add& add) {
  using V = hn::VFromD<D>;
  const V sums = FoldVectors(d, n, hn::Zero(d), add,
                             [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

// Calls body with the constants 0, 1, ... kCount - 1. Unlike a loop this is
// unrolled at any optimisation level, so that arrays of vectors indexed by the
// constant live in registers.
template <class Body, size_t... kIndex>
HWY_INLINE void UnrollSequence(const Body& body,
                               std::index_sequence<kIndex...>) {
  (body(std::integral_constant<size_t, kIndex>()), ...);
}
template <size_t kCount, class Body>
HWY_INLINE void Unroll(const Body& body) {
  UnrollSequence(body, std::make_index_sequence<kCount>());
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_LANES_INL_H_
