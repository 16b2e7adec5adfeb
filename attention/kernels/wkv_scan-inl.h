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

// Token by token, a few vectors of channels at a time. The chain between tokens
// is short (p, then a multiply-add); the exponentials hang off it, several
// tokens' at once. `access` is AllLanes or FirstLanes; lanes outside hold zeros
// or what comes of them, and are not stored.

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

// What the backward wants to know of a token, a vector each: the state before
// it, its output, its own share in the output, and 1 / denominator (scaled by
// the greater of p and u + k).
enum Kept { kA, kB, kP, kY, kShare, kInverse, kKept };

// Vectors of channels that run side by side, for exponentials in batches of
// twice as many: as many as registers hold.
constexpr size_t kVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;

// The state of kCount vectors of channels.
template <size_t kCount, class V>
struct States {
  V a[kCount], b[kCount], p[kCount];
};

// That of one vector of channels, from and to a state of `channels` channels.
template <class Access>
HWY_INLINE auto LoadState(const Access& access, size_t channels,
                          const typename Access::T* from) {
  return States<1, typename Access::V>{{access.Load(from)},
                                       {access.Load(from + channels)},
                                       {access.Load(from + 2 * channels)}};
}
template <class Access, class V>
HWY_INLINE void StoreState(const States<1, V>& states, const Access& access,
                           size_t channels, typename Access::T* to) {
  access.Store(states.a[0], to);
  access.Store(states.b[0], to + channels);
  access.Store(states.p[0], to + 2 * channels);
}

// The tokens [begin, end) of kCount vectors of channels from `col` on, whose
// states are advanced. With kKeep, kept receives vectors [token][kKept] (of one
// vector of channels); else y receives the output.
template <bool kKeep, size_t kCount, class D, class Access, class V, typename T>
HWY_INLINE void ScanVectors(D d, const Wkv<T>& s, size_t begin, size_t end,
                            size_t col, const Access& access,
                            States<kCount, V>* states, MatrixView<T> y,
                            T* HWY_RESTRICT kept) {
  static_assert(!kKeep || kCount == 1, "kept holds one vector of channels");
  const size_t lanes = hn::Lanes(d);
  V a[kCount], b[kCount], p[kCount];
  HWY_UNROLL(4) for (size_t i = 0; i < kCount; ++i) {
    a[i] = states->a[i];
    b[i] = states->b[i];
    p[i] = states->p[i];
  }
  for (size_t t = begin; t < end; ++t) {
    // The exponents of the read, then those of the write.
    V of_state[2 * kCount], of_token[2 * kCount];
    HWY_UNROLL(4) for (size_t i = 0; i < kCount; ++i) {
      const size_t at = col + i * lanes;
      const V k = access.Load(s.k.row(t) + at);
      of_state[i] = p[i];
      of_token[i] = hn::Add(access.Load(s.u + at), k);
      of_state[kCount + i] = hn::Add(p[i], access.Load(s.w + at));
      of_token[kCount + i] = k;
    }
    V old[2 * kCount], own[2 * kCount];
    ScaledExps<2 * kCount>(d, of_state, of_token, old, own);
    HWY_UNROLL(4) for (size_t i = 0; i < kCount; ++i) {
      const V v = access.Load(s.v.row(t) + col + i * lanes);
      const V inverse =
          hn::Div(hn::Set(d, T{1}), hn::MulAdd(old[i], b[i], own[i]));
      const V share = hn::Mul(own[i], inverse);
      const V output =
          hn::MulAdd(share, v, hn::Mul(hn::Mul(old[i], inverse), a[i]));
      if constexpr (kKeep) {
        const V vectors[] = {a[i], b[i], p[i], output, share, inverse};
        for (size_t j = 0; j < kKept; ++j, kept += lanes) {
          hn::Store(vectors[j], d, kept);
        }
      } else {
        access.Store(output, y.row(t) + col + i * lanes);
      }
      const size_t w = kCount + i;
      a[i] = hn::MulAdd(old[w], a[i], hn::Mul(own[w], v));
      b[i] = hn::MulAdd(old[w], b[i], own[w]);
      p[i] = hn::Max(of_state[w], of_token[w]);
    }
  }
  HWY_UNROLL(4) for (size_t i = 0; i < kCount; ++i) {
    states->a[i] = a[i];
    states->b[i] = b[i];
    states->p[i] = p[i];
  }
}

}  // namespace wkv
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_WKV_SCAN_INL_H_
