// SPDX-License-Identifier: Apache-2.0
//
// Blocks are differentiated last to first, while the gradients by A and B
// behind a token, which are e^-r alpha and e^-r beta, become those by A and B
// before it. Each block is computed once more for that, from the state before
// it, and a chunk's states from the one that was saved.

#include <algorithm>
#include <cstddef>

#include "attention/kernels/wkv.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/wkv_backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/wkv_blocks-inl.h"
#include "attention/kernels/wkv_scan-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace wkv {
namespace hn = hwy::HWY_NAMESPACE;

// Access to the lanes of `mask` alone.
template <class Access, class M>
struct Masked {
  using T = typename Access::T;
  using V = typename Access::V;

  const Access& access;
  M mask;

  HWY_INLINE V Load(const T* from) const { return access.Load(from); }
  HWY_INLINE void Store(V v, T* to) const {
    access.Store(hn::IfThenElse(mask, v, access.Load(to)), to);
  }
};

// What a vector of channels carries from block to block: r in octaves, and the
// sums of d_w and d_u. Slots hold it for all of them.
template <class V>
struct Carried {
  V alpha, beta, r, d_w, d_u;
};
constexpr size_t kCarried = 5;

template <class D, class V = hn::VFromD<D>, typename T>
HWY_INLINE Carried<V> TakeCarried(D d, const T* from) {
  const auto at = [&](size_t i)
                      HWY_ATTR { return hn::Load(d, from + i * hn::Lanes(d)); };
  return {at(0), at(1), at(2), at(3), at(4)};
}
template <class D, class V, typename T>
HWY_INLINE void PutCarried(D d, const Carried<V>& carried, T* to) {
  const size_t lanes = hn::Lanes(d);
  hn::Store(carried.alpha, d, to);
  hn::Store(carried.beta, d, to + lanes);
  hn::Store(carried.r, d, to + 2 * lanes);
  hn::Store(carried.d_w, d, to + 3 * lanes);
  hn::Store(carried.d_u, d, to + 4 * lanes);
}

// What only the way back reads is not in the cache yet.
template <typename T>
constexpr size_t kAhead = 256 / sizeof(T);

// *to += x, if somebody wants it.
template <class D, class V, class Access, typename T>
HWY_INLINE void AddTo(D, V x, const Access& access, MatrixView<T> to, size_t t,
                      size_t col) {
  if (to.data == nullptr) return;
  T* const row = to.row(t) + col;
  hwy::Prefetch(row + kAhead<T>);
  access.Store(hn::Add(access.Load(row), x), row);
}

// The tokens [t, t + kTokens) of a vector of channels from the state in
// `slots`, one by one. With m = max(p, u + k), den the scaled denominator and q
// = d_y / den,
//
//   s     = d_y share (v - y),               d_u += s,
//   d_k   = s + e^{k - r} (alpha v + beta),  d_v = d_y share + e^{k - r} alpha,
//   d_w  += e^{p + w - r} (alpha a + beta b),
//   alpha <- e^{r' - r + w} alpha + e^{r' - m} q,
//   beta  <- e^{r' - r + w} beta - e^{r' - m} q y,    r' = min(r - w, m).
//
// Every term in alpha and beta was divided by a denominator e^m with m at least
// the exponent that any earlier token has there, so r >= k and r >= p + w.
// (Where blocks made the state, or followed, half an octave may be missing:
// their references are rounded. The exponentials are right for arguments that
// small, too.)
template <size_t kTokens, class D, class Access, class V, typename T>
HWY_INLINE Carried<V> TokensBackward(D d, const Wkv<T>& s, const T* slots,
                                     MatrixView<const T> d_y, size_t t,
                                     size_t col, const Access& access,
                                     Carried<V> carried,
                                     const WkvGradients<T>& gradients) {
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN T all_kept[kTokens * kKept * hn::MaxLanes(d)];
  const V w = access.Load(s.w + col), u = access.Load(s.u + col);
  ScanTokens<kTokens>(d, s, t, col, access, TakeByTokens(d, slots), all_kept);
  V alpha = carried.alpha, beta = carried.beta;
  V r = hn::Mul(carried.r, hn::Set(d, Ln2(d)));
  for (size_t i = kTokens; i-- > 0;) {
    const T* const kept = all_kept + i * kKept * lanes;
    const auto of = [&](Kept j)
                        HWY_ATTR { return hn::Load(d, kept + j * lanes); };
    const V k = access.Load(s.k.row(t + i) + col);
    const V v = access.Load(s.v.row(t + i) + col);
    const V d_out = access.Load(d_y.row(t + i) + col);
    const V p = of(kP), y = of(kY);

    const V written = FastExpNonPositive(d, hn::Sub(k, r));
    const V d_share = hn::Mul(d_out, of(kShare));
    const V from_read = hn::Mul(d_share, hn::Sub(v, y));
    carried.d_u = hn::Add(carried.d_u, from_read);
    AddTo(d, hn::MulAdd(written, hn::MulAdd(alpha, v, beta), from_read), access,
          gradients.d_k, t + i, col);
    AddTo(d, hn::MulAdd(written, alpha, d_share), access, gradients.d_v, t + i,
          col);

    const V faded = FastExpNonPositive(d, hn::Sub(hn::Add(p, w), r));
    const V by_decay = hn::MulAdd(alpha, of(kA), hn::Mul(beta, of(kB)));
    carried.d_w = hn::MulAdd(faded, by_decay, carried.d_w);

    const V m = hn::Max(p, hn::Add(u, k)), later = hn::Sub(r, w);
    V old, own;
    const V fading = hn::Neg(later), reading = hn::Neg(m);
    ScaledExps<1>(d, &fading, &reading, &old, &own);
    const V q = hn::Mul(own, hn::Mul(d_out, of(kInverse)));
    alpha = hn::MulAdd(old, alpha, q);
    beta = hn::NegMulAdd(q, y, hn::Mul(old, beta));
    r = hn::Min(later, m);
  }
  carried.alpha = alpha;
  carried.beta = beta;
  // Not a product with its inverse, which would change r from block to block.
  carried.r = hn::Div(r, hn::Set(d, Ln2(d)));
  return carried;
}

// What is kept of a token in a block: f and the state before it.
enum KeptOfBlock { kF, kBlockA, kBlockB, kKeptOfBlock };

// The tokens [t, t + kTokens) of a vector of channels from what is kept of
// them. Here r is the block's reference, so that with g = d_y / den
//
//   s     = e^u f g (v - y),             d_u += s,
//   d_k   = s + f (alpha v + beta),      d_v  = e^u f g + f alpha,
//   d_w  += e^w (alpha a + beta b),
//   alpha <- e^w alpha + g,              beta <- e^w beta - g y.
//
// It is less than that of the block before by half an octave at most.
template <size_t kTokens, class D, class Access, class V, typename T>
HWY_INLINE Carried<V> KeptBackward(D d, MatrixView<const T> v,
                                   MatrixView<const T> d_y, size_t t,
                                   size_t col, const Access& access, V decay,
                                   V bonus, V r, const T* HWY_RESTRICT all_kept,
                                   const Carried<V>& carried,
                                   const WkvGradients<T>& gradients) {
  const size_t lanes = hn::Lanes(d);
  const V scale = FastExp2NonPositive(d, hn::Sub(r, carried.r));
  V alpha = hn::Mul(carried.alpha, scale);
  V beta = hn::Mul(carried.beta, scale);
  V d_u = carried.d_u, by_a = hn::Zero(d), by_b = hn::Zero(d);
  for (size_t i = kTokens; i-- > 0;) {
    const T* const kept = all_kept + i * kKeptOfBlock * lanes;
    const auto of = [&](KeptOfBlock j)
                        HWY_ATTR { return hn::Load(d, kept + j * lanes); };
    hwy::Prefetch(d_y.row(t + i) + col + kAhead<T>);
    const V f = of(kF), a = of(kBlockA), b = of(kBlockB);
    const V value = access.Load(v.row(t + i) + col);
    const V read = hn::Mul(bonus, f);
    const V inverse = hn::Div(hn::Set(d, T{1}), hn::Add(b, read));
    const V y = hn::Mul(hn::MulAdd(read, value, a), inverse);
    const V g = hn::Mul(access.Load(d_y.row(t + i) + col), inverse);
    const V d_share = hn::Mul(read, g);
    const V from_read = hn::Mul(d_share, hn::Sub(value, y));
    d_u = hn::Add(d_u, from_read);
    AddTo(d, hn::MulAdd(f, hn::MulAdd(alpha, value, beta), from_read), access,
          gradients.d_k, t + i, col);
    AddTo(d, hn::MulAdd(f, alpha, d_share), access, gradients.d_v, t + i, col);
    by_a = hn::MulAdd(alpha, a, by_a);
    by_b = hn::MulAdd(beta, b, by_b);
    alpha = hn::MulAdd(decay, alpha, g);
    beta = hn::MulSub(decay, beta, hn::Mul(g, y));
  }
  return {alpha, beta, r, hn::MulAdd(decay, hn::Add(by_a, by_b), carried.d_w),
          d_u};
}

// The lanes of a block that are `good` from what is kept, the others token by
// token.
template <size_t kTokens, class D, class Access, class V, class M, typename T>
HWY_NOINLINE void MixedBackward(D d, const Wkv<T>& s, const T* slots,
                                MatrixView<const T> d_y, size_t t, size_t col,
                                const Access& access, V decay, V bonus, M good,
                                V r, const T* kept, T* carried,
                                const WkvGradients<T>& gradients) {
  const Carried<V> before = TakeCarried(d, carried);
  const Carried<V> single = TokensBackward<kTokens>(
      d, s, slots, d_y, t, col, Masked<Access, M>{access, hn::Not(good)},
      before, gradients);
  const Carried<V> shared = KeptBackward<kTokens>(
      d, s.v, d_y, t, col, Masked<Access, M>{access, good}, decay, bonus, r,
      kept, before, gradients);
  const auto select = [&](V x, V y)
                          HWY_ATTR { return hn::IfThenElse(good, x, y); };
  PutCarried<D, V>(
      d,
      {select(shared.alpha, single.alpha), select(shared.beta, single.beta),
       select(shared.r, single.r), select(shared.d_w, single.d_w),
       select(shared.d_u, single.d_u)},
      carried);
}

// Vectors of channels that are computed again before they go backwards, so that
// a processor finds several in either that do not wait for each other.
constexpr size_t kGroup = 4;

// Entries kept of a vector of channels in a block of kTokens: r, which is NaN
// in lanes that blocks are not for, then the tokens.
template <size_t kTokens>
constexpr size_t kKeptVectors = 1 + kTokens* kKeptOfBlock;

// The tokens [t, t + kTokens) of channels [begin, end) again, from the states
// in slots.
template <size_t kTokens, typename T>
HWY_FLATTEN void KeepBlocks(MatrixView<const T> k, MatrixView<const T> v,
                            size_t t, size_t begin, size_t end,
                            const T* all_factors, const T* slots,
                            T* HWY_RESTRICT all_kept) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  ForEachVector(d, end - begin, [=](size_t c, const auto& access) HWY_ATTR {
    const T* const factors = all_factors + c * kFactors;
    T* HWY_RESTRICT kept = all_kept + c * kKeptVectors<kTokens>;
    BlockState<V> state = Take(d, slots + c * kSlots);
    const auto good = ScanBlock<kTokens>(
        d, k, v, t, begin + c, access, hn::Load(d, factors + kDecay * lanes),
        hn::Load(d, factors + kBonus * lanes), &state,
        [=](size_t i, V f, V, V, V a, V b) HWY_ATTR {
          T* const to = kept + (1 + i * kKeptOfBlock) * lanes;
          hn::Store(f, d, to + kF * lanes);
          hn::Store(a, d, to + kBlockA * lanes);
          hn::Store(b, d, to + kBlockB * lanes);
        });
    hn::Store(hn::IfThenElse(good, NumberOf(d, state.octaves), hn::NaN(d)), d,
              kept);
  });
}

// Those tokens backwards.
template <size_t kTokens, typename T>
HWY_FLATTEN void BlocksBackward(const Wkv<T>& s, size_t t, size_t begin,
                                size_t end, const T* all_factors,
                                const T* all_slots, MatrixView<const T> d_y,
                                const T* HWY_RESTRICT all_kept, T* all_carried,
                                const WkvGradients<T>& all_gradients) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  // Of one's own, as arguments may be what a store overwrites.
  const MatrixView<const T> v = s.v;
  const WkvGradients<T> gradients = all_gradients;
  ForEachVector(d, end - begin, [=, &s](size_t c, const auto& access) HWY_ATTR {
    const T* const factors = all_factors + c * kFactors;
    const T* const kept = all_kept + c * kKeptVectors<kTokens>;
    const V decay = hn::Load(d, factors + kDecay * lanes);
    const V bonus = hn::Load(d, factors + kBonus * lanes);
    const V r = hn::Load(d, kept);
    const auto good = hn::Eq(r, r);
    T* const carried = all_carried + c * kCarried;
    if (HWY_LIKELY(hn::AllTrue(d, good))) {
      PutCarried(d,
                 KeptBackward<kTokens>(d, v, d_y, t, begin + c, access, decay,
                                       bonus, r, kept + lanes,
                                       TakeCarried(d, carried), gradients),
                 carried);
    } else {
      MixedBackward<kTokens>(d, s, all_slots + c * kSlots, d_y, t, begin + c,
                             access, decay, bonus, good, r, kept + lanes,
                             carried, gradients);
    }
  });
}

template <size_t kTokens, typename T>
void Groups(const Wkv<T>& s, size_t t, size_t end, const T* factors,
            const T* slots, MatrixView<const T> d_y, T* carried, T* kept,
            const WkvGradients<T>& gradients) {
  const size_t step = kGroup * hn::Lanes(hn::ScalableTag<T>());
  for (size_t begin = s.begin; begin < end; begin += step) {
    const size_t c = begin - s.begin, last = std::min(end, begin + step);
    KeepBlocks<kTokens>(s.k, s.v, t, begin, last, factors + c * kFactors,
                        slots + c * kSlots, kept);
    BlocksBackward<kTokens>(s, t, begin, last, factors + c * kFactors,
                            slots + c * kSlots, d_y, kept,
                            carried + c * kCarried, gradients);
  }
}

template <typename T>
HWY_FLATTEN void AddSums(const T* carried, size_t begin, size_t end, T* d_w,
                         T* d_u) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, end - begin, [&](size_t c, const auto& access) HWY_ATTR {
    const auto sums = TakeCarried(d, carried + c * kCarried);
    const auto add = [&](auto sum, T* all) HWY_ATTR {
      if (all == nullptr) return;
      T* const to = all + begin + c;
      access.Store(hn::Add(access.Load(to), sum), to);
    };
    add(sums.d_w, d_w);
    add(sums.d_u, d_u);
  });
}

template <typename T>
HWY_FLATTEN void Backward(const Wkv<T>& s, const T* saved,
                          MatrixView<const T> d_y,
                          const WkvGradients<T>& gradients) {
  const hn::ScalableTag<T> d;
  const size_t length = s.k.rows, channels = s.k.cols, lanes = hn::Lanes(d);
  const size_t end = std::min(s.end, channels);
  if (length == 0 || s.begin >= end) return;
  const size_t chunk = std::min(s.chunk, length);
  const size_t vectors = (end - s.begin + lanes - 1) / lanes;
  const size_t slots = vectors * kSlots * lanes;
  T *states = nullptr, *factors = nullptr, *carried = nullptr, *kept = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    // Before each block of a chunk, the last of which may be single tokens.
    states = take((chunk / kBlock + kBlock - 1) * slots);
    factors = take(vectors * kFactors * lanes);
    carried = take(vectors * kCarried * lanes);
    kept = take(kGroup * kKeptVectors<kBlock> * lanes);
  });
  const auto zero = hn::Zero(d);
  for (size_t i = 0; i < vectors; ++i) {
    // An r above all exponents, and finite, as p is below them.
    PutCarried<decltype(d), hn::VFromD<decltype(d)>>(
        d, {zero, zero, hn::Set(d, static_cast<T>(1e38)), zero, zero},
        carried + i * kCarried * lanes);
  }
  LoadFactors(s, end, factors);
  for (size_t i = (length + chunk - 1) / chunk; i-- > 0;) {
    const size_t begin = i * chunk, last = std::min(length, begin + chunk);
    T* before = states;
    LoadSlots(s, end, saved + i * WkvStateSize(channels), factors, before);
    // Up to the last block, and back.
    size_t t = begin;
    for (; t + kBlock < last; t += kBlock, before += slots) {
      Blocks<kBlock, false>(s, t, end, factors, before, before + slots,
                            MatrixView<T>());
    }
    for (; t + 1 < last && t + kBlock != last; ++t, before += slots) {
      Blocks<1, false>(s, t, end, factors, before, before + slots,
                       MatrixView<T>());
    }
    for (;; before -= slots) {
      const bool whole = (t - begin) % kBlock == 0 && t + kBlock <= last;
      (whole ? Groups<kBlock, T> : Groups<1, T>)(s, t, end, factors, before,
                                                 d_y, carried, kept, gradients);
      if (t == begin) break;
      t -= (t - begin) % kBlock == 0 ? kBlock : 1;
    }
  }
  AddSums(carried, s.begin, end, gradients.d_w, gradients.d_u);
}

}  // namespace wkv

void WkvBackwardFloat(const Wkv<float>& s, const float* saved,
                      MatrixView<const float> d_y,
                      const WkvGradients<float>& gradients) {
  wkv::Backward(s, saved, d_y, gradients);
}
void WkvBackwardDouble(const Wkv<double>& s, const double* saved,
                       MatrixView<const double> d_y,
                       const WkvGradients<double>& gradients) {
  wkv::Backward(s, saved, d_y, gradients);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(WkvBackwardFloat);
HWY_EXPORT(WkvBackwardDouble);

void WkvBackward(const Wkv<float>& s, const float* saved,
                 MatrixView<const float> d_y,
                 const WkvGradients<float>& gradients) {
  HWY_DYNAMIC_DISPATCH(WkvBackwardFloat)(s, saved, d_y, gradients);
}
void WkvBackward(const Wkv<double>& s, const double* saved,
                 MatrixView<const double> d_y,
                 const WkvGradients<double>& gradients) {
  HWY_DYNAMIC_DISPATCH(WkvBackwardDouble)(s, saved, d_y, gradients);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
