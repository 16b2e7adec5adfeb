// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/wkv.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/wkv.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/wkv_blocks-inl.h"
#include "attention/kernels/wkv_scan-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace wkv {
namespace hn = hwy::HWY_NAMESPACE;

// All tokens of kCount vectors of channels from `col` on.
template <size_t kCount, class D, class Access, typename T>
HWY_INLINE void ForwardVectors(D d, const Wkv<T>& s, size_t col,
                               const Access& access, T* state, MatrixView<T> y,
                               T* saved) {
  const size_t length = s.k.rows, channels = s.k.cols;
  const size_t chunk = std::min(s.chunk, length), lanes = hn::Lanes(d);
  States<kCount, hn::VFromD<D>> states;
  const auto store = [&](T* to) HWY_ATTR {
    for (size_t i = 0; i < kCount; ++i, to += lanes) {
      access.Store(states.a[i], to);
      access.Store(states.b[i], to + channels);
      access.Store(states.p[i], to + 2 * channels);
    }
  };
  for (size_t i = 0; i < kCount; ++i) {
    const T* const from = state + col + i * lanes;
    states.a[i] = access.Load(from);
    states.b[i] = access.Load(from + channels);
    states.p[i] = access.Load(from + 2 * channels);
  }
  for (size_t begin = 0; begin < length; begin += chunk) {
    if (saved != nullptr) {
      store(saved + begin / chunk * WkvStateSize(channels) + col);
    }
    ScanVectors<false>(d, s, begin, std::min(length, begin + chunk), col,
                       access, &states, y, static_cast<T*>(nullptr));
  }
  store(state + col);
}

// What a vector of channels has in scratch while blocks run through all
// channels, which reads memory in its order. p is that of lanes whose octaves
// are NaN.
enum Slot {
  kSlotA,
  kSlotB,
  kSlotOctaves,
  kSlotP,
  kSlotDecay,
  kSlotBonus,
  kSlots
};

template <class D, class V, typename T>
HWY_INLINE void Put(D d, const BlockState<V>& state, T* slots) {
  const size_t lanes = hn::Lanes(d);
  hn::Store(state.a, d, slots + kSlotA * lanes);
  hn::Store(state.b, d, slots + kSlotB * lanes);
  hn::Store(state.octaves, d, slots + kSlotOctaves * lanes);
}

template <class D, class V = hn::VFromD<D>, typename T>
HWY_INLINE BlockState<V> Take(D d, const T* slots) {
  const size_t lanes = hn::Lanes(d);
  return {hn::Load(d, slots + kSlotA * lanes),
          hn::Load(d, slots + kSlotB * lanes),
          hn::Load(d, slots + kSlotOctaves * lanes)};
}

// The lanes of a block that are not `good`, token by token from the state in
// slots; y has the others already, and `state` is theirs.
template <size_t kTokens, class D, class Access, class V, class M, typename T>
HWY_NOINLINE void BlockByTokens(D d, const Wkv<T>& s, size_t t, size_t col,
                                const Access& access, M good,
                                BlockState<V> state, T* slots,
                                MatrixView<T> y) {
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN T kept[kTokens * kKept * hn::MaxLanes(d)];
  T* const p = slots + kSlotP * lanes;
  States<1, V> exact = FromBlock(d, Take(d, slots), hn::Load(d, p));
  ScanVectors<true>(d, s, t, t + kTokens, col, access, &exact, MatrixView<T>(),
                    kept);
  for (size_t i = 0; i < kTokens; ++i) {
    T* const to = y.row(t + i) + col;
    const V output = hn::Load(d, kept + (i * kKept + kY) * lanes);
    access.Store(hn::IfThenElse(good, access.Load(to), output), to);
  }
  hn::Store(exact.p[0], d, p);
  const BlockState<V> redone =
      ToBlock(d, exact, hn::Load(d, slots + kSlotBonus * lanes));
  state.a = hn::IfThenElse(good, state.a, redone.a);
  state.b = hn::IfThenElse(good, state.b, redone.b);
  state.octaves = hn::IfThenElse(good, state.octaves, redone.octaves);
  Put(d, state, slots);
}

// The tokens [t, t + kTokens) of all channels. A lane that blocks are not for
// is computed once more, whatever the lanes beside it are.
template <size_t kTokens, typename T>
HWY_FLATTEN void Blocks(const Wkv<T>& s, size_t t, size_t end, T* all_slots,
                        MatrixView<T> y) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t lanes = hn::Lanes(d), begin = s.begin;
  // Of one's own, as `s` may be what a store overwrites.
  const MatrixView<const T> k = s.k, v = s.v;
  ForEachVector(d, end - begin, [=, &s](size_t c, const auto& access) HWY_ATTR {
    T* const slots = all_slots + c * kSlots;
    BlockState<V> state = Take(d, slots);
    const auto good = ScanBlock<kTokens>(
        d, k, v, t, begin + c, access, hn::Load(d, slots + kSlotDecay * lanes),
        hn::Load(d, slots + kSlotBonus * lanes), &state,
        [&](size_t i, V, V num, V den, V, V) HWY_ATTR {
          access.Store(hn::Div(num, den), y.row(t + i) + begin + c);
        });
    if (HWY_LIKELY(hn::AllTrue(d, good))) {
      Put(d, state, slots);
    } else {
      BlockByTokens<kTokens>(d, s, t, begin + c, access, good, state, slots, y);
    }
  });
}

template <typename T>
HWY_FLATTEN void StoreSlots(const T* slots, size_t begin, size_t end,
                            size_t channels, T* state) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, end - begin, [&](size_t c, const auto& access) HWY_ATTR {
    const T* const from = slots + c * kSlots;
    const auto states =
        FromBlock(d, Take(d, from), hn::Load(d, from + kSlotP * hn::Lanes(d)));
    StoreState(states, access, channels, state + begin + c);
  });
}

template <typename T>
HWY_FLATTEN void ForwardByBlocks(const Wkv<T>& s, size_t end, T* state,
                                 MatrixView<T> y, T* saved) {
  const hn::ScalableTag<T> d;
  const size_t length = s.k.rows, channels = s.k.cols, lanes = hn::Lanes(d);
  const size_t vectors = (end - s.begin + lanes - 1) / lanes;
  T* slots = nullptr;
  recurrence::LayOutScratch<T>(
      [&](const auto& take) { slots = take(vectors * kSlots * lanes); });
  ForEachVector(d, end - s.begin, [&](size_t c, const auto& access) HWY_ATTR {
    const size_t col = s.begin + c;
    T* const to = slots + c * kSlots;
    const auto bonus = FastExp(d, access.Load(s.u + col));
    hn::Store(bonus, d, to + kSlotBonus * lanes);
    hn::Store(FastExpNonPositive(d, access.Load(s.w + col)), d,
              to + kSlotDecay * lanes);
    const auto states = LoadState(access, channels, state + col);
    hn::Store(states.p[0], d, to + kSlotP * lanes);
    Put(d, ToBlock(d, states, bonus), to);
  });
  const size_t chunk = std::min(s.chunk, length);
  for (size_t begin = 0; begin < length; begin += chunk) {
    if (saved != nullptr) {
      StoreSlots(slots, s.begin, end, channels,
                 saved + begin / chunk * WkvStateSize(channels));
    }
    const size_t last = std::min(length, begin + chunk);
    size_t t = begin;
    for (; t + kBlock <= last; t += kBlock) Blocks<kBlock>(s, t, end, slots, y);
    for (; t < last; ++t) Blocks<1>(s, t, end, slots, y);
  }
  StoreSlots(slots, s.begin, end, channels, state);
}

template <typename T>
HWY_FLATTEN void Forward(const Wkv<T>& s, T* state, MatrixView<T> y, T* saved) {
  const hn::ScalableTag<T> d;
  const size_t end = std::min(s.end, s.k.cols);
  if (s.begin >= end) return;
  // For one token e^w and e^u would be two more exponentials.
  if (std::min(s.chunk, s.k.rows) > 1) {
    return ForwardByBlocks(s, end, state, y, saved);
  }
  const size_t step = kVectors * hn::Lanes(d);
  size_t col = s.begin;
  for (; col + step <= end; col += step) {
    ForwardVectors<kVectors>(d, s, col, AllLanes<decltype(d)>(), state, y,
                             saved);
  }
  ForEachVector(d, end - col, [&](size_t c, const auto& access) HWY_ATTR {
    ForwardVectors<1>(d, s, col + c, access, state, y, saved);
  });
}

// The gradients by A and B after a token, scaled: e^-r alpha and e^-r beta.
// Every term in them was divided by a denominator e^m with m at least the
// exponent that any earlier token has there, so r >= k_t and r >= p + w. (Where
// blocks made the state, half an octave may be missing: their references are
// rounded. The exponentials below are right for arguments that small, too.)
template <class V>
struct Carried {
  V alpha, beta, r;
};

// One token backwards. With m = max(p, u + k), den the scaled denominator and q
// = d_y / den,
//
//   s     = d_y share (v - y),               d_u += s,
//   d_k   = s + e^{k - r} (alpha v + beta),  d_v = d_y share + e^{k - r} alpha,
//   d_w  += e^{p + w - r} (alpha a + beta b),
//   alpha <- e^{r' - r + w} alpha + e^{r' - m} q,
//   beta  <- e^{r' - r + w} beta - e^{r' - m} q y,    r' = min(r - w, m).
template <class D, class Access, class V, typename T>
HWY_INLINE void TokenBackward(D d, const Wkv<T>& s, MatrixView<const T> d_y,
                              size_t t, size_t col, const Access& access,
                              const T* HWY_RESTRICT kept, V w, V u,
                              Carried<V>* carried, V* d_w, V* d_u,
                              const WkvGradients<T>& gradients) {
  const auto of = [&](Kept i)
                      HWY_ATTR { return hn::Load(d, kept + i * hn::Lanes(d)); };
  const V k = access.Load(s.k.row(t) + col), v = access.Load(s.v.row(t) + col);
  const V d_out = access.Load(d_y.row(t) + col);
  const V p = of(kP), y = of(kY);
  const V alpha = carried->alpha, beta = carried->beta, r = carried->r;

  const V written = FastExpNonPositive(d, hn::Sub(k, r));
  const V d_share = hn::Mul(d_out, of(kShare));
  const V from_read = hn::Mul(d_share, hn::Sub(v, y));
  *d_u = hn::Add(*d_u, from_read);
  if (gradients.d_k.data != nullptr) {
    T* const to = gradients.d_k.row(t) + col;
    const V d_k = hn::MulAdd(written, hn::MulAdd(alpha, v, beta), from_read);
    access.Store(hn::Add(access.Load(to), d_k), to);
  }
  if (gradients.d_v.data != nullptr) {
    T* const to = gradients.d_v.row(t) + col;
    const V d_v = hn::MulAdd(written, alpha, d_share);
    access.Store(hn::Add(access.Load(to), d_v), to);
  }

  const V faded = FastExpNonPositive(d, hn::Sub(hn::Add(p, w), r));
  *d_w =
      hn::MulAdd(faded, hn::MulAdd(alpha, of(kA), hn::Mul(beta, of(kB))), *d_w);

  const V m = hn::Max(p, hn::Add(u, k)), later = hn::Sub(r, w);
  V old, own;
  const V fading = hn::Neg(later), reading = hn::Neg(m);
  ScaledExps<1>(d, &fading, &reading, &old, &own);
  const V q = hn::Mul(own, hn::Mul(d_out, of(kInverse)));
  carried->alpha = hn::MulAdd(old, alpha, q);
  carried->beta = hn::NegMulAdd(q, y, hn::Mul(old, beta));
  carried->r = hn::Min(later, m);
}

template <typename T>
HWY_FLATTEN void Backward(const Wkv<T>& s, const T* saved,
                          MatrixView<const T> d_y,
                          const WkvGradients<T>& gradients) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t length = s.k.rows, channels = s.k.cols;
  if (length == 0) return;
  const size_t chunk = std::min(s.chunk, length);
  const size_t chunks = (length + chunk - 1) / chunk;
  T* kept = nullptr;
  recurrence::LayOutScratch<T>(
      [&](const auto& take) { kept = take(chunk * kKept * hn::Lanes(d)); });
  ForEachVector(d, channels, [&](size_t col, const auto& access) HWY_ATTR {
    const V w = access.Load(s.w + col), u = access.Load(s.u + col);
    // Above all exponents, and finite, as p is below them.
    Carried<V> carried = {hn::Zero(d), hn::Zero(d),
                          hn::Set(d, static_cast<T>(1e38))};
    V d_w = hn::Zero(d), d_u = hn::Zero(d);
    for (size_t i = chunks; i-- > 0;) {
      const size_t begin = i * chunk, end = std::min(length, begin + chunk);
      const T* const from = saved + i * WkvStateSize(channels) + col;
      States<1, V> states = {{access.Load(from)},
                             {access.Load(from + channels)},
                             {access.Load(from + 2 * channels)}};
      ScanVectors<true>(d, s, begin, end, col, access, &states, MatrixView<T>(),
                        kept);
      for (size_t t = end; t-- > begin;) {
        TokenBackward(d, s, d_y, t, col, access,
                      kept + (t - begin) * kKept * hn::Lanes(d), w, u, &carried,
                      &d_w, &d_u, gradients);
      }
    }
    if (gradients.d_w != nullptr) {
      T* const to = gradients.d_w + col;
      access.Store(hn::Add(access.Load(to), d_w), to);
    }
    if (gradients.d_u != nullptr) {
      T* const to = gradients.d_u + col;
      access.Store(hn::Add(access.Load(to), d_u), to);
    }
  });
}

}  // namespace wkv

void WkvForwardFloat(const Wkv<float>& s, float* state, MatrixView<float> y,
                     float* saved) {
  wkv::Forward(s, state, y, saved);
}
void WkvForwardDouble(const Wkv<double>& s, double* state, MatrixView<double> y,
                      double* saved) {
  wkv::Forward(s, state, y, saved);
}
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

HWY_EXPORT(WkvForwardFloat);
HWY_EXPORT(WkvForwardDouble);
HWY_EXPORT(WkvBackwardFloat);
HWY_EXPORT(WkvBackwardDouble);

void WkvForward(const Wkv<float>& s, float* state, MatrixView<float> y,
                float* saved) {
  HWY_DYNAMIC_DISPATCH(WkvForwardFloat)(s, state, y, saved);
}
void WkvForward(const Wkv<double>& s, double* state, MatrixView<double> y,
                double* saved) {
  HWY_DYNAMIC_DISPATCH(WkvForwardDouble)(s, state, y, saved);
}
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
