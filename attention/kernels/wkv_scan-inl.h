// SPDX-License-Identifier: Apache-2.0
//
// The WKV recurrence token by token: what any tokens may be taken with, and
// what the backward recomputes.

#if defined(MNEME_ATTENTION_KERNELS_WKV_SCAN_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_WKV_SCAN_INL_H_
#undef MNEME_ATTENTION_KERNELS_WKV_SCAN_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_WKV_SCAN_INL_H_
#endif

#include <cstddef>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/wkv.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace wkv {
namespace hn = hwy::HWY_NAMESPACE;

// The chain between tokens is short (p, then a multiply-add); the exponentials
// hang off it. `access` is AllLanes or FirstLanes; lanes outside hold zeros or
// what comes of them, and are not stored.

// (e^{x - m}, e^{y - m}) with m = max(x, y), for kCount pairs at once: one of
// the two is 1.
template <size_t kCount, class D, class V>
HWY_INLINE void ScaledExps(D d, const V* x, const V* y, V* exp_x, V* exp_y) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, T{1});
  const V log2e = hn::Set(d, -ExpConstants<T>::kLog2E);
  V difference[kCount], smaller[kCount];
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    difference[i] = hn::Sub(x[i], y[i]);
    smaller[i] = hn::Mul(hn::Abs(difference[i]), log2e);
  }
  FastExp2NonPositive<kCount>(d, smaller);
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    const auto x_leads = hn::Ge(difference[i], hn::Zero(d));
    exp_x[i] = hn::IfThenElse(x_leads, one, smaller[i]);
    exp_y[i] = hn::IfThenElse(x_leads, smaller[i], one);
  }
}

// The state of a vector of channels.
template <class V>
struct State {
  V a, b, p;
};

// That of channels `from` on, of `channels` in all.
template <class Access>
HWY_INLINE auto LoadState(const Access& access, size_t channels,
                          const typename Access::T* from) {
  return State<typename Access::V>{access.Load(from),
                                   access.Load(from + channels),
                                   access.Load(from + 2 * channels)};
}
template <class Access, class V>
HWY_INLINE void StoreState(const State<V>& state, const Access& access,
                           size_t channels, typename Access::T* to) {
  access.Store(state.a, to);
  access.Store(state.b, to + channels);
  access.Store(state.p, to + 2 * channels);
}

// A token's output as numerator and denominator, and its own share in the
// latter, scaled by the greater of p and u + k.
template <class V>
struct Read {
  V num, den, own;
};

// Reads with a token, and advances the state.
template <class D, class V>
HWY_INLINE Read<V> ScanToken(D d, V k, V v, V w, V u, State<V>* state) {
  // The exponents of the read, then those of the write.
  const V of_state[] = {state->p, hn::Add(state->p, w)};
  const V of_token[] = {hn::Add(u, k), k};
  V old[2], own[2];
  ScaledExps<2>(d, of_state, of_token, old, own);
  const Read<V> read = {hn::MulAdd(old[0], state->a, hn::Mul(own[0], v)),
                        hn::MulAdd(old[0], state->b, own[0]), own[0]};
  state->a = hn::MulAdd(old[1], state->a, hn::Mul(own[1], v));
  state->b = hn::MulAdd(old[1], state->b, own[1]);
  state->p = hn::Max(of_state[1], of_token[1]);
  return read;
}

// What the backward wants to know of a token, a vector each: the state before
// it, its output, its own share in the output, and 1 / denominator (scaled by
// the greater of p and u + k).
enum Kept { kA, kB, kP, kY, kShare, kInverse, kKept };

// The tokens [t, t + kTokens) of a vector of channels from `col` on, of which
// kept receives vectors [token][kKept]. Returns the state after them.
template <size_t kTokens, class D, class Access, class V, typename T>
HWY_INLINE State<V> ScanTokens(D d, const Wkv<T>& s, size_t t, size_t col,
                               const Access& access, State<V> state,
                               T* HWY_RESTRICT kept) {
  const size_t lanes = hn::Lanes(d);
  const V w = access.Load(s.w + col), u = access.Load(s.u + col);
  for (size_t i = 0; i < kTokens; ++i, kept += kKept * lanes) {
    hn::Store(state.a, d, kept + kA * lanes);
    hn::Store(state.b, d, kept + kB * lanes);
    hn::Store(state.p, d, kept + kP * lanes);
    const Read<V> read =
        ScanToken(d, access.Load(s.k.row(t + i) + col),
                  access.Load(s.v.row(t + i) + col), w, u, &state);
    const V inverse = hn::Div(hn::Set(d, T{1}), read.den);
    hn::Store(hn::Mul(read.num, inverse), d, kept + kY * lanes);
    hn::Store(hn::Mul(read.own, inverse), d, kept + kShare * lanes);
    hn::Store(inverse, d, kept + kInverse * lanes);
  }
  return state;
}

}  // namespace wkv
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_WKV_SCAN_INL_H_
