// SPDX-License-Identifier: Apache-2.0
//
// Vector exponentials for float and double, to be inlined into kernels:
//
//   FastExp(d, x)             e^x for any x
//   FastExpNonPositive(d, x)  e^x for x <= 0, -inf and NaN
//   FastExp2NonPositive(d, z) 2^z for z <= 0, -inf and NaN; the cheapest, also
//                             for several vectors at once
//
// All write x = n ln 2 + r (z = n + r) with an integer n and |r| at most half
// an octave, evaluate a minimax polynomial in r, and put n into the exponent.
// The relative error is at most 2e-7 (float) and 1e-15 (double); e^0 is exactly
// 1 and NaN gives NaN.
//
// A softmax wants FastExp2NonPositive: e^(s x - m) = 2^(s' x - m') with s' and
// m' scaled by log2(e) needs no ln 2 in two parts, because r = z - n is exact.
// On cores with separate adders (Zen) only 7 of its 12 operations then compete
// with multiply-adds. Its argument may exceed 0 by rounding errors: the result
// is right up to z = 127 (1023 for double).

#if defined(MNEME_ATTENTION_KERNELS_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_EXP_INL_H_
#undef MNEME_ATTENTION_KERNELS_EXP_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_EXP_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr int kMantissaBits = 23;
  static constexpr float kExponentBias = 127;
  // 1.5 * 2^23: adding it leaves the nearest integer in the low mantissa bits.
  static constexpr float kRound = 12582912.0f;
  static constexpr float kLog2E = 1.44269504f;
  // ln 2 in two parts. The upper one has 15 significant bits, so that its
  // product with n is exact even where MulAdd rounds twice.
  static constexpr float kLn2High = 0.693145752f;
  static constexpr float kLn2Low = 1.42860682e-6f;
  // e^x is a normal, finite number exactly in this range.
  static constexpr float kMinArgument = -87.3365448f;
  static constexpr float kMaxArgument = 88.7228394f;
  // Coefficients of r^1 ... r^5, minimising the relative error (9.2e-8) on
  // |r| <= ln(2) / 2 and |r| <= 1/2, with a constant term of exactly 1.
  static constexpr float kExp[] = {0.999999707f, 0.499991495f, 0.166676361f,
                                   0.0418979306f, 0.00829032071f};
  static constexpr float kExp2[] = {0.693146978f, 0.240222421f, 0.0555073371f,
                                    0.00967151293f, 0.00132647368f};
};

template <>
struct ExpConstants<double> {
  static constexpr int kMantissaBits = 52;
  static constexpr double kExponentBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLog2E = 1.4426950408889634;
  // 32 significant bits in the upper part.
  static constexpr double kLn2High = 0.6931471803691238;
  static constexpr double kLn2Low = 1.9082149292705877e-10;
  static constexpr double kMinArgument = -708.3964185322641;
  static constexpr double kMaxArgument = 709.782712893384;
  // As above, r^1 ... r^11; 3.4e-18.
  static constexpr double kExp[] = {
      1.0000000000000000236,     0.50000000000000124935,
      0.16666666666666217202,    0.041666666666517830813,
      0.0083333333335497095897,  0.0013888888946352054731,
      0.00019841269436754381785, 2.4801490637196137709e-5,
      2.7557626738541033295e-6,  2.7631033786969554103e-7,
      2.4991418781741121206e-8};
  static constexpr double kExp2[] = {
      0.69314718055994532581,   0.24022650695910131259,
      0.055504108664820083124,  0.0096181291075941206229,
      0.0013333558146774651271, 0.00015403530457111374706,
      1.5252733493093522473e-5, 1.3215435282675494304e-6,
      1.0178199587398950088e-7, 7.0737831852950699081e-9,
      4.4347688008225198531e-10};
};

// 1 + c[0] r + ... + c[N - 1] r^N by Horner's rule: the fewest operations, and
// callers have independent vectors to fill its latency with.
template <class D, class V, size_t N>
HWY_INLINE V ExpPolynomial(D d, V r, const hn::TFromD<D> (&c)[N]) {
  V sum = hn::Set(d, c[N - 1]);
  HWY_UNROLL(12) for (size_t i = 2; i <= N; ++i) {
    sum = hn::MulAdd(sum, r, hn::Set(d, c[N - i]));
  }
  return hn::MulAdd(sum, r, hn::Set(d, hn::TFromD<D>{1}));
}

// x - n ln 2.
template <class D, class V>
HWY_INLINE V ExpReduce(D d, V x, V n) {
  using C = ExpConstants<hn::TFromD<D>>;
  return hn::NegMulAdd(n, hn::Set(d, C::kLn2Low),
                       hn::NegMulAdd(n, hn::Set(d, C::kLn2High), x));
}

// max(x, low), but NaN where x is NaN.
template <class D, class V>
HWY_INLINE V ClampBelow(D d, V x, hn::TFromD<D> low) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  // MAXPS returns its second operand when one of them is NaN.
  return hn::Max(hn::Set(d, low), x);
#else
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, low)), hn::Set(d, low), x);
#endif
}

// The integer n that adding kRound left in the low mantissa bits, moved to
// where the exponent is.
template <class DU, class V>
HWY_INLINE hn::VFromD<DU> ToExponentField(DU du, V rounded) {
  using T = hn::TFromV<V>;
  return hn::ShiftLeft<ExpConstants<T>::kMantissaBits>(
      hn::BitCast(du, rounded));
}

template <class D, class V>
HWY_INLINE V FastExp(D d, V x) {
  using C = ExpConstants<hn::TFromD<D>>;
  const hn::RebindToUnsigned<D> du;
  const V round = hn::Set(d, C::kRound);
  const V rounded = hn::MulAdd(x, hn::Set(d, C::kLog2E), round);
  const V r = ExpReduce(d, x, hn::Sub(rounded, round));
  const V p = ExpPolynomial(d, r, C::kExp);
  // Unlike multiplying by 2^n, adding n to the exponent also works for the
  // greatest n, where 2^n is infinite but p < 1.
  const V y =
      hn::BitCast(d, hn::Add(hn::BitCast(du, p), ToExponentField(du, rounded)));
  // x + inf answers overflow as well as NaN.
  const V not_low = hn::IfThenElse(hn::Le(x, hn::Set(d, C::kMaxArgument)), y,
                                   hn::Add(x, hn::Inf(d)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, C::kMinArgument)), not_low);
}

// Here n carries the exponent's bias, so that its field is 2^n as it stands,
// and 0 for the least n: arguments that small (and -inf) are clamped there.
// Multiplying by it keeps NaN whatever its payload is.
template <class D, class V>
HWY_INLINE V FastExpNonPositive(D d, V x) {
  using T = hn::TFromD<D>;
  using C = ExpConstants<T>;
  const hn::RebindToUnsigned<D> du;
  constexpr T kLn2 = C::kLn2High + C::kLn2Low;
  x = ClampBelow(d, x, -C::kExponentBias * kLn2);
  const V round = hn::Set(d, C::kRound + C::kExponentBias);
  const V rounded = hn::MulAdd(x, hn::Set(d, C::kLog2E), round);
  const V r = ExpReduce(d, x, hn::Sub(rounded, round));
  return hn::Mul(ExpPolynomial(d, r, C::kExp),
                 hn::BitCast(d, ToExponentField(du, rounded)));
}

// kCount independent vectors at once, z[i] = 2^z[i], step by step for all of
// them. One vector's chain of operations takes about 50 cycles; with the chains
// one after the other a scheduler of some 100 entries holds too few of them to
// keep the pipes busy (Zen 5: 7 cycles per vector instead of 4).
template <size_t kCount, class D, class V>
HWY_INLINE void FastExp2NonPositive(D d, V* HWY_RESTRICT z) {
  using T = hn::TFromD<D>;
  using C = ExpConstants<T>;
  constexpr size_t kDegree = sizeof(C::kExp2) / sizeof(T);
  const hn::RebindToUnsigned<D> du;
  const V round = hn::Set(d, C::kRound + C::kExponentBias);
  V rounded[kCount], p[kCount];
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    z[i] = ClampBelow(d, z[i], -C::kExponentBias);
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    rounded[i] = hn::Add(z[i], round);
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    z[i] = hn::Sub(z[i], hn::Sub(rounded[i], round));
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    p[i] = hn::Set(d, C::kExp2[kDegree - 1]);
  }
  HWY_UNROLL(12) for (size_t k = 2; k <= kDegree; ++k) {
    const V c = hn::Set(d, C::kExp2[kDegree - k]);
    HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
      p[i] = hn::MulAdd(p[i], z[i], c);
    }
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    p[i] = hn::MulAdd(p[i], z[i], hn::Set(d, T{1}));
  }
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    z[i] = hn::Mul(p[i], hn::BitCast(d, ToExponentField(du, rounded[i])));
  }
}

template <class D, class V>
HWY_INLINE V FastExp2NonPositive(D d, V z) {
  FastExp2NonPositive<1>(d, &z);
  return z;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_EXP_INL_H_
