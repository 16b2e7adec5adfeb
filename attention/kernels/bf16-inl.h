// SPDX-License-Identifier: Apache-2.0
//
// Conversions between vectors of floats and bfloat16, to be inlined into
// kernels. A pair of bfloat16 numbers lies in one 32-bit lane, the first in the
// lower half, as the instructions that multiply such pairs want it.

#if defined(MNEME_ATTENTION_KERNELS_BF16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_BF16_INL_H_
#undef MNEME_ATTENTION_KERNELS_BF16_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_BF16_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "attention/kernels/bf16.h"
#include "attention/kernels/exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using Bits = hn::RebindToUnsigned<D>;

// The two numbers of each pair.
template <class D>
HWY_INLINE hn::VFromD<D> FirstOfPairs(D d, hn::VFromD<Bits<D>> pairs) {
  return hn::BitCast(d, hn::ShiftLeft<16>(pairs));
}
template <class D>
HWY_INLINE hn::VFromD<D> SecondOfPairs(D d, hn::VFromD<Bits<D>> pairs) {
  return hn::BitCast(d, hn::And(pairs, hn::Set(Bits<D>(), 0xFFFF0000u)));
}

// RoundToBf16 of each lane, in its lower half.
template <class D>
HWY_INLINE hn::VFromD<Bits<D>> RoundedBits(D, hn::VFromD<D> x) {
  const Bits<D> du;
  const auto bits = hn::BitCast(du, x);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(du, 1u));
  const auto rounded =
      hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd));
  const auto quiet = hn::Or(upper, hn::Set(du, 0x40u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(x)), quiet, rounded);
}

// Pairs of numbers >= 0 (or NaN, as arithmetic makes it), ties away from zero:
// half the operations of RoundedBits.
template <class D>
HWY_INLINE hn::VFromD<Bits<D>> PairsOfWeights(D, hn::VFromD<D> first,
                                              hn::VFromD<D> second) {
  const Bits<D> du;
  const auto half = hn::Set(du, 0x8000u);
  const auto low = hn::ShiftRight<16>(hn::Add(hn::BitCast(du, first), half));
  const auto high =
      hn::And(hn::Add(hn::BitCast(du, second), half), hn::Set(du, 0xFFFF0000u));
  return hn::Or(low, high);
}

// z[i] = 2^z[i] for kCount vectors of z <= 0, -inf or NaN, as exp-inl.h does it
// but with a relative error of 7.5e-5, a fiftieth of what rounding to Bf16
// adds. A softmax divides by a sum of the same numbers.
template <size_t kCount, class D, class V>
HWY_INLINE void CoarseExp2NonPositive(D d, V* HWY_RESTRICT z) {
  using C = ExpConstants<float>;
  // Minimax on |r| <= 1/2.
  constexpr float kCoefficients[] = {0.999928074f, 0.693260985f, 0.242611122f,
                                     0.0551716691f};
  const Bits<D> du;
  const V round = hn::Set(d, C::kRound + C::kExponentBias);
  V rounded[kCount], p[kCount];
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    z[i] = ClampBelow(d, z[i], -C::kExponentBias);
    rounded[i] = hn::Add(z[i], round);
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    z[i] = hn::Sub(z[i], hn::Sub(rounded[i], round));
    p[i] = hn::MulAdd(hn::Set(d, kCoefficients[3]), z[i],
                      hn::Set(d, kCoefficients[2]));
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    p[i] = hn::MulAdd(p[i], z[i], hn::Set(d, kCoefficients[1]));
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    p[i] = hn::MulAdd(p[i], z[i], hn::Set(d, kCoefficients[0]));
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    z[i] = hn::Mul(p[i], hn::BitCast(d, ToExponentField(du, rounded[i])));
  }
}

// The first `count` <= Lanes(d) numbers at `to`.
template <class D>
HWY_INLINE void StoreRounded(D d, hn::VFromD<D> x, size_t count, Bf16* to) {
  const hn::Rebind<int32_t, D> di;
  const hn::Rebind<uint16_t, D> narrow;
  const auto bits = hn::DemoteTo(narrow, hn::BitCast(di, RoundedBits(d, x)));
  uint16_t* const out = &to->bits;
  if (count == hn::Lanes(d)) {
    hn::StoreU(bits, narrow, out);
    return;
  }
  HWY_ALIGN uint16_t padded[hn::MaxLanes(d)];
  hn::Store(bits, narrow, padded);
  for (size_t i = 0; i < count; ++i) out[i] = padded[i];
}

// How two vectors become Bf16s: one after the other at `to`, or as pairs of
// their lanes.
struct SoftwareRounding {
  template <class D, class V = hn::VFromD<D>>
  static HWY_INLINE void Store(D d, V first, V second, Bf16* to) {
    StoreRounded(d, first, hn::Lanes(d), to);
    StoreRounded(d, second, hn::Lanes(d), to + hn::Lanes(d));
  }
  template <class D, class V = hn::VFromD<D>>
  static HWY_INLINE void StorePairs(D d, V first, V second, uint32_t* to) {
    hn::StoreU(hn::Or(RoundedBits(d, first),
                      hn::ShiftLeft<16>(RoundedBits(d, second))),
               Bits<D>(), to);
  }
};

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
// By AVX512-BF16's instruction, a quarter of the operations; makes denormals
// zeros. Written as assembly, as no target of Highway 1.0.3 has it.
struct HardwareRounding {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;

  static HWY_INLINE void Store(D, V first, V second, Bf16* to) {
    _mm512_storeu_si512(to, Rounded(first, second));
  }
  static HWY_INLINE void StorePairs(D, V first, V second, uint32_t* to) {
    HWY_ALIGN static constexpr uint16_t kPairs[32] = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kPairs),
                                                     Rounded(first, second)));
  }

 private:
  static HWY_INLINE __m512i Rounded(V first, V second) {
    __m512i both;
    asm("vcvtne2ps2bf16 %2, %1, %0"
        : "=v"(both)
        : "v"(second.raw), "v"(first.raw));
    return both;
  }
};
#else
using HardwareRounding = SoftwareRounding;
#endif

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_BF16_INL_H_
