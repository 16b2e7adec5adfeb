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

// Blocks of tokens that share a reference m, the greatest of p and all k to
// within half an octave: with f = e^{k - m} and the constants e^w and e^u a
// token takes one exponential instead of two,
//
//   y_t = (a + e^u f v_t) / (b + e^u f),  a <- e^w a + f v_t,  b <- e^w b + f.
//
// m is a whole number of octaves: 2^n of k then comes out of one rounding, with
// a remainder that is exact where multiply-adds are fused. A lane with a
// denominator so small that terms next to it might have been lost is computed
// once more token by token, whatever the lanes beside it are. (A fresh p of
// -1e38 is only a state of zeros.)
constexpr size_t kBlock = 8;
constexpr double kLeast = 1e-18;
// e^u must leave the denominators finite, and ExpsBelow's rounding constant
// less the octaves must be a whole number that a float holds exactly.
constexpr double kMostBonus = 1e26, kMostOctaves = 1 << 21;

// What a vector of channels has in scratch while blocks run through all
// channels, which reads memory in its order.
enum Slot { kSlotA, kSlotB, kSlotP, kSlotDecay, kSlotBonus, kSlots };

// k[i] = e^{k[i]} / 2^octaves.
template <size_t kCount, class D, class V>
HWY_INLINE void ExpsBelow(D d, V octaves, V* k) {
  using T = hn::TFromD<D>;
  using C = ExpConstants<T>;
  const hn::RebindToUnsigned<D> du;
  const V log2e = hn::Set(d, C::kLog2E);
  const V round = hn::Sub(hn::Set(d, C::kRound + C::kExponentBias), octaves);
  // From here on the field of the exponent is 0, and so is the result.
  const V low = hn::Mul(hn::Sub(octaves, hn::Set(d, C::kExponentBias)),
                        hn::Set(d, C::kLn2High + C::kLn2Low));
  V power[kCount];
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    const V x = hn::IfThenElse(hn::Lt(k[i], low), low, k[i]);  // keeps NaN
    const V rounded = hn::MulAdd(x, log2e, round);
    k[i] = hn::MulSub(x, log2e, hn::Sub(rounded, round));
    power[i] = hn::BitCast(d, ToExponentField(du, rounded));
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    k[i] = hn::Mul(ExpPolynomial(d, k[i], C::kExp2), power[i]);
  }
}

// The lanes of a block that are not `good`, token by token from the state in
// slots; y and the state in `states` have the others already.
template <size_t kTokens, class D, class Access, class V, class M, typename T>
HWY_NOINLINE void BlockByTokens(D d, const Wkv<T>& s, size_t t, size_t col,
                                const Access& access, const T* slots, M good,
                                States<1, V>* states, MatrixView<T> y) {
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN T kept[kTokens * kKept * hn::MaxLanes(d)];
  States<1, V> exact = {{hn::Load(d, slots + kSlotA * lanes)},
                        {hn::Load(d, slots + kSlotB * lanes)},
                        {hn::Load(d, slots + kSlotP * lanes)}};
  ScanVectors<true>(d, s, t, t + kTokens, col, access, &exact, MatrixView<T>(),
                    kept);
  for (size_t i = 0; i < kTokens; ++i) {
    T* const to = y.row(t + i) + col;
    const V output = hn::Load(d, kept + (i * kKept + kY) * lanes);
    access.Store(hn::IfThenElse(good, access.Load(to), output), to);
  }
  states->a[0] = hn::IfThenElse(good, states->a[0], exact.a[0]);
  states->b[0] = hn::IfThenElse(good, states->b[0], exact.b[0]);
  states->p[0] = hn::IfThenElse(good, states->p[0], exact.p[0]);
}

// The tokens [t, t + kTokens) of a vector of channels.
template <size_t kTokens, class D, class Access, typename T>
HWY_INLINE void Block(D d, const Wkv<T>& s, size_t t, size_t col,
                      const Access& access, T* HWY_RESTRICT slots,
                      MatrixView<T> y) {
  using V = hn::VFromD<D>;
  using C = ExpConstants<T>;
  const size_t lanes = hn::Lanes(d);
  const V log2e = hn::Set(d, C::kLog2E);
  V f[kTokens];
  HWY_UNROLL(8) for (size_t i = 0; i < kTokens; ++i) {
    f[i] = access.Load(s.k.row(t + i) + col);
  }
  const V p = hn::Load(d, slots + kSlotP * lanes);
  V top = p;
  HWY_UNROLL(8) for (size_t i = 0; i < kTokens; ++i) top = hn::Max(top, f[i]);
  const V octaves = hn::Round(hn::Mul(top, log2e));
  const V m = hn::Mul(octaves, hn::Set(d, C::kLn2High + C::kLn2Low));
  // Exactly 1 where the reference stays.
  const V scale =
      hn::IfThenElse(hn::Eq(m, p), hn::Set(d, T{1}),
                     FastExp2NonPositive(d, hn::MulSub(p, log2e, octaves)));
  V a = hn::Mul(hn::Load(d, slots + kSlotA * lanes), scale);
  V b = hn::Mul(hn::Load(d, slots + kSlotB * lanes), scale);
  ExpsBelow<kTokens>(d, octaves, f);
  const V decay = hn::Load(d, slots + kSlotDecay * lanes);
  const V bonus = hn::Load(d, slots + kSlotBonus * lanes);
  V least = hn::Set(d, T{1});
  HWY_UNROLL(8) for (size_t i = 0; i < kTokens; ++i) {
    const V weighted = hn::Mul(f[i], access.Load(s.v.row(t + i) + col));
    const V den = hn::MulAdd(bonus, f[i], b);
    const V num = hn::MulAdd(bonus, weighted, a);
    access.Store(hn::Div(num, den), y.row(t + i) + col);
    least = hn::Min(least, den);
    a = hn::MulAdd(decay, a, weighted);
    b = hn::MulAdd(decay, b, f[i]);
  }
  const V limit = hn::Set(d, static_cast<T>(kLeast));
  const auto within = [&](V x, double most) HWY_ATTR {
    return hn::Le(x, hn::Set(d, static_cast<T>(most)));
  };
  // A NaN stays in b.
  const auto good = hn::And(hn::And(hn::Ge(least, limit), hn::Ge(b, limit)),
                            hn::And(within(bonus, kMostBonus),
                                    within(hn::Abs(octaves), kMostOctaves)));
  States<1, V> states = {{a}, {b}, {m}};
  if (HWY_UNLIKELY(!hn::AllTrue(d, good))) {
    BlockByTokens<kTokens>(d, s, t, col, access, slots, good, &states, y);
  }
  hn::Store(states.a[0], d, slots + kSlotA * lanes);
  hn::Store(states.b[0], d, slots + kSlotB * lanes);
  hn::Store(states.p[0], d, slots + kSlotP * lanes);
}

// All vectors of channels.
template <size_t kTokens, typename T>
HWY_FLATTEN void Blocks(const Wkv<T>& s, size_t t, size_t end, T* slots,
                        MatrixView<T> y) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, end - s.begin, [&](size_t c, const auto& access) HWY_ATTR {
    Block<kTokens>(d, s, t, s.begin + c, access, slots + c * kSlots, y);
  });
}

template <typename T>
HWY_FLATTEN void StoreSlots(const T* slots, size_t begin, size_t end,
                            size_t channels, T* state) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, end - begin, [&](size_t c, const auto& access) HWY_ATTR {
    const T* from = slots + c * kSlots;
    T* to = state + begin + c;
    for (size_t i = 0; i <= kSlotP; ++i, from += hn::Lanes(d), to += channels) {
      access.Store(hn::Load(d, from), to);
    }
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
    for (size_t i = 0; i <= kSlotP; ++i) {
      hn::Store(access.Load(state + i * channels + col), d, to + i * lanes);
    }
    hn::Store(FastExpNonPositive(d, access.Load(s.w + col)), d,
              to + kSlotDecay * lanes);
    hn::Store(FastExp(d, access.Load(s.u + col)), d, to + kSlotBonus * lanes);
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
