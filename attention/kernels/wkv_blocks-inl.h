// SPDX-License-Identifier: Apache-2.0
//
// The WKV recurrence by blocks of tokens that share a reference of n octaves,
// the greatest of the state's and all k to within half an octave: with f = e^k
// / 2^n and the constants e^w and e^u a token takes one exponential, not two,
//
//   y_t = (a + e^u f v_t) / (b + e^u f),  a <- e^w a + f v_t,  b <- e^w b + f.
//
// e^k = 2^i g with a whole number i and a g whose exponent is exact where
// multiply-adds are fused. Neither waits for n, the greatest i, which is all
// that f takes from the state: with every block's chain short, a processor
// keeps several blocks in flight. Numbers of octaves are kept as an
// exponential's rounding leaves them, as kRound + i; the bits of those are in
// the same order, as unsigned numbers, and NaN is beyond all of them.
//
// Blocks are not for lanes in which terms might be lost next to a small
// denominator, or where an exponent or e^u is too large. In the others f is at
// least about 2^-125 in float, for weights that are nothing, too. Beside a
// denominator of kLeast or more that is 3e-20 at most, which nobody sees unless
// a value is some 1e12 times as large as those beside it.

#if defined(MNEME_ATTENTION_KERNELS_WKV_BLOCKS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_WKV_BLOCKS_INL_H_
#undef MNEME_ATTENTION_KERNELS_WKV_BLOCKS_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_WKV_BLOCKS_INL_H_
#endif

#include <cstddef>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/wkv.h"
#include "attention/kernels/wkv_scan-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace wkv {
namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t kBlock = 8;
constexpr double kLeast = 1e-18;
// e^u must leave the denominators finite, and kRound + i must be exact: keys
// are told apart down to twice as many octaves.
constexpr double kMostBonus = 1e26, kMostOctaves = 1 << 20;

template <class D>
constexpr hn::TFromD<D> Ln2(D) {
  using C = ExpConstants<hn::TFromD<D>>;
  return C::kLn2High + C::kLn2Low;
}

// A = 2^n a, B = 2^n b.
template <class V>
struct BlockState {
  V a, b, octaves;
};

// n itself.
template <class D, class V>
HWY_INLINE V NumberOf(D d, V octaves) {
  return hn::Sub(octaves, hn::Set(d, ExpConstants<hn::TFromD<D>>::kRound));
}

// Whether blocks may have that reference; not if it is NaN.
template <class D, class V>
HWY_INLINE auto MayBeShared(D d, V octaves) {
  return hn::Le(hn::Abs(NumberOf(d, octaves)),
                hn::Set(d, static_cast<hn::TFromD<D>>(kMostOctaves)));
}

template <class D, class V>
HWY_INLINE auto HasSeenNothing(D d, V a, V b) {
  return hn::And(hn::Eq(a, hn::Zero(d)), hn::Eq(b, hn::Zero(d)));
}

// Lanes that blocks are not for get NaN for octaves, and stay what they are.
template <class D, class V>
HWY_INLINE BlockState<V> ToBlock(D d, const State<V>& from, V bonus) {
  using T = hn::TFromD<D>;
  const V log2e = hn::Set(d, ExpConstants<T>::kLog2E);
  const V round = hn::Set(d, ExpConstants<T>::kRound);
  // Of a state of nothing tokens may share any reference that is low enough.
  const V p =
      hn::IfThenElse(HasSeenNothing(d, from.a, from.b),
                     hn::Set(d, static_cast<T>(-kMostOctaves / 2)), from.p);
  const V octaves = hn::MulAdd(p, log2e, round);
  const auto good =
      hn::And(MayBeShared(d, octaves),
              hn::Le(bonus, hn::Set(d, static_cast<T>(kMostBonus))));
  const V z = hn::MulSub(p, log2e, NumberOf(d, octaves));
  const V scale =
      hn::IfThenElse(good, FastExp2NonPositive(d, z), hn::Set(d, T{1}));
  return {hn::Mul(from.a, scale), hn::Mul(from.b, scale),
          hn::IfThenElse(good, octaves, hn::NaN(d))};
}

// Where the octaves are NaN the exponent is `p`. That of nothing is again below
// any token's: the next ones may weigh less than a block's least reference.
template <class D, class V>
HWY_INLINE State<V> FromBlock(D d, const BlockState<V>& from, V p) {
  const V shared = hn::Mul(NumberOf(d, from.octaves), hn::Set(d, Ln2(d)));
  const V exponent = hn::IfThenElse(MayBeShared(d, from.octaves), shared, p);
  const V nothing = hn::Set(d, static_cast<hn::TFromD<D>>(kWkvNothing));
  return {from.a, from.b,
          hn::IfThenElse(HasSeenNothing(d, from.a, from.b), nothing, exponent)};
}

// The tokens [t, t + kTokens) of a vector of channels from `col` on. Each
// hands `each` its index in the block, f, the output's numerator and
// denominator, and a and b before it. Returns the lanes that blocks are for; in
// the others all of this means nothing.
template <size_t kTokens, class D, class Access, class V, typename T,
          class Each>
HWY_INLINE auto ScanBlock(D d, MatrixView<const T> k, MatrixView<const T> v,
                          size_t t, size_t col, const Access& access, V decay,
                          V bonus, BlockState<V>* state, const Each& each) {
  using C = ExpConstants<T>;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  using VU = hn::VFromD<decltype(du)>;
  constexpr int kBias = static_cast<int>(C::kExponentBias);
  // Rows end before hardware has foreseen those of the next block.
  constexpr size_t kAhead = 128 / sizeof(T);
  constexpr T kLowest = static_cast<T>(-2 * kMostOctaves) * Ln2(D());
  const V log2e = hn::Set(d, C::kLog2E), round = hn::Set(d, C::kRound);
  const VU before = hn::BitCast(du, state->octaves);
  V f[kTokens];
  VU octaves[kTokens], top = before;
  HWY_UNROLL(8) for (size_t i = 0; i < kTokens; ++i) {
    const T* const from = k.row(t + i) + col;
    hwy::Prefetch(from + kAhead);
    const V x = ClampBelow(d, access.Load(from), kLowest);
    const V rounded = hn::MulAdd(x, log2e, round);
    f[i] = hn::MulSub(x, log2e, hn::Sub(rounded, round));
    octaves[i] = hn::BitCast(du, rounded);
    top = hn::Max(top, octaves[i]);
  }
  // What is added to an exponent's field, at least `least`.
  const auto field = [&](VU of, int least) HWY_ATTR {
    const auto below = hn::BitCast(di, hn::Sub(of, top));
    const auto number = hn::Max(below, hn::Set(di, least));
    return hn::ShiftLeft<C::kMantissaBits>(hn::BitCast(du, number));
  };
  HWY_UNROLL(8) for (size_t i = 0; i < kTokens; ++i) {
    // The polynomial may be less than 1, and f is to be a normal number.
    const V g = ExpPolynomial(d, f[i], C::kExp2);
    f[i] = hn::BitCast(
        d, hn::Add(hn::BitCast(du, g), field(octaves[i], 2 - kBias)));
  }
  const V scale = hn::BitCast(
      d, hn::Add(hn::BitCast(du, hn::Set(d, T{1})), field(before, -kBias)));
  V a = hn::Mul(state->a, scale), b = hn::Mul(state->b, scale);
  V least = hn::Set(d, T{1});
  HWY_UNROLL(8) for (size_t i = 0; i < kTokens; ++i) {
    const T* const from = v.row(t + i) + col;
    hwy::Prefetch(from + kAhead);
    const V weighted = hn::Mul(f[i], access.Load(from));
    const V num = hn::MulAdd(bonus, weighted, a);
    const V den = hn::MulAdd(bonus, f[i], b);
    each(i, f[i], num, den, a, b);
    least = hn::Min(least, den);
    a = hn::MulAdd(decay, a, weighted);
    b = hn::MulAdd(decay, b, f[i]);
  }
  *state = {a, b, hn::BitCast(d, top)};
  const V limit = hn::Set(d, static_cast<T>(kLeast));
  // A NaN stays in b.
  return hn::And(hn::And(hn::Ge(least, limit), hn::Ge(b, limit)),
                 MayBeShared(d, state->octaves));
}

// The states of all channels before or after a block, a vector of channels
// after the other: what a BlockState holds, and p where the octaves are NaN.
enum Slot { kSlotA, kSlotB, kSlotOctaves, kSlotP, kSlots };
// The constants of all channels, likewise: e^w and e^u.
enum Factor { kDecay, kBonus, kFactors };

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

template <class D, typename T>
HWY_INLINE auto TakeByTokens(D d, const T* slots) {
  return FromBlock(d, Take(d, slots),
                   hn::Load(d, slots + kSlotP * hn::Lanes(d)));
}

template <typename T>
HWY_FLATTEN void LoadFactors(const Wkv<T>& s, size_t end, T* factors) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  ForEachVector(d, end - s.begin, [&](size_t c, const auto& access) HWY_ATTR {
    const size_t col = s.begin + c;
    hn::Store(FastExp(d, access.Load(s.u + col)), d,
              factors + c * kFactors + kBonus * lanes);
    hn::Store(FastExpNonPositive(d, access.Load(s.w + col)), d,
              factors + c * kFactors + kDecay * lanes);
  });
}

template <typename T>
HWY_FLATTEN void LoadSlots(const Wkv<T>& s, size_t end, const T* state,
                           const T* factors, T* slots) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  ForEachVector(d, end - s.begin, [&](size_t c, const auto& access) HWY_ATTR {
    const auto bonus = hn::Load(d, factors + c * kFactors + kBonus * lanes);
    const auto loaded = LoadState(access, s.k.cols, state + s.begin + c);
    hn::Store(loaded.p, d, slots + c * kSlots + kSlotP * lanes);
    Put(d, ToBlock(d, loaded, bonus), slots + c * kSlots);
  });
}

template <typename T>
HWY_FLATTEN void StoreSlots(const Wkv<T>& s, size_t end, const T* slots,
                            T* state) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, end - s.begin, [&](size_t c, const auto& access) HWY_ATTR {
    StoreState(TakeByTokens(d, slots + c * kSlots), access, s.k.cols,
               state + s.begin + c);
  });
}

// The lanes of a block that are not `good`, token by token; y has the others
// already, and `state` is theirs.
template <size_t kTokens, class D, class Access, class V, class M, typename T>
HWY_NOINLINE void BlockByTokens(D d, const Wkv<T>& s, size_t t, size_t col,
                                const Access& access, M good, V bonus,
                                BlockState<V> state, const T* from, T* to,
                                MatrixView<T> y) {
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN T kept[kTokens * kKept * hn::MaxLanes(d)];
  const State<V> exact =
      ScanTokens<kTokens>(d, s, t, col, access, TakeByTokens(d, from), kept);
  for (size_t i = 0; i < kTokens && y.data != nullptr; ++i) {
    T* const row = y.row(t + i) + col;
    const V output = hn::Load(d, kept + (i * kKept + kY) * lanes);
    access.Store(hn::IfThenElse(good, access.Load(row), output), row);
  }
  const BlockState<V> redone = ToBlock(d, exact, bonus);
  state.a = hn::IfThenElse(good, state.a, redone.a);
  state.b = hn::IfThenElse(good, state.b, redone.b);
  state.octaves = hn::IfThenElse(good, state.octaves, redone.octaves);
  Put(d, state, to);
  hn::Store(exact.p, d, to + kSlotP * lanes);
}

// The tokens [t, t + kTokens) of channels [s.begin, end), from the states in
// one array of slots to those in another, or the same. Without kOutput y is
// null. A lane that blocks are not for is computed once more, whatever the
// lanes beside it are.
template <size_t kTokens, bool kOutput, typename T>
HWY_FLATTEN void Blocks(const Wkv<T>& s, size_t t, size_t end,
                        const T* all_factors, const T* before, T* after,
                        MatrixView<T> y) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const size_t lanes = hn::Lanes(d), begin = s.begin;
  // Of one's own, as `s` may be what a store overwrites.
  const MatrixView<const T> k = s.k, v = s.v;
  ForEachVector(d, end - begin, [=, &s](size_t c, const auto& access) HWY_ATTR {
    const T* const factors = all_factors + c * kFactors;
    const T* const from = before + c * kSlots;
    const V bonus = hn::Load(d, factors + kBonus * lanes);
    BlockState<V> state = Take(d, from);
    const auto good = ScanBlock<kTokens>(
        d, k, v, t, begin + c, access, hn::Load(d, factors + kDecay * lanes),
        bonus, &state, [&](size_t i, V, V num, V den, V, V) HWY_ATTR {
          if constexpr (kOutput) {
            access.Store(hn::Div(num, den), y.row(t + i) + begin + c);
          }
        });
    if (HWY_LIKELY(hn::AllTrue(d, good))) {
      Put(d, state, after + c * kSlots);
    } else {
      BlockByTokens<kTokens>(d, s, t, begin + c, access, good, bonus, state,
                             from, after + c * kSlots, y);
    }
  });
}

}  // namespace wkv
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_WKV_BLOCKS_INL_H_
