// SPDX-License-Identifier: Apache-2.0
//
// The functions of vector_math.h on vectors, to be inlined into kernels, e.g.
// as the epilogue of a product:
//
//   y = Silu()(d, x);  dx = hn::Mul(dy, Silu().Derivative(d, x));
//
// All work in float and double with the accuracy that vector_math.h promises,
// and take the exponential of negative arguments only, so none overflows.

#if defined(MNEME_ATTENTION_KERNELS_VECTOR_MATH_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_VECTOR_MATH_INL_H_
#undef MNEME_ATTENTION_KERNELS_VECTOR_MATH_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_VECTOR_MATH_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "attention/kernels/exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
struct VectorMathConstants;

// kTanh: tanh(x) = x + x^3 P(x^2) for |x| <= 1/4; kAtanh: atanh(s) = s + s^3
// P(s^2) for |s| <= 1/3. Interpolated at the Chebyshev nodes; the relative
// errors of the functions are 9.7e-9 and 1.5e-8, 1.5e-17 and 4.7e-18. Likewise
// kSin for |x| <= pi / 2, with errors 2.7e-8 and 1.3e-18.
//
// kPi is pi in parts so short that their products with half integers of up to
// kMaxTurn / pi are exact even where MulAdd rounds twice.
template <>
struct VectorMathConstants<float> {
  static constexpr float kTanh[] = {-0.333333173f, 0.13328699f, -0.0519749431f};
  static constexpr float kAtanh[] = {0.333333202f, 0.200037803f, 0.141183099f,
                                     0.13425749f};
  static constexpr float kSin[] = {-0.16666666f, 0.00833324211f,
                                   -0.000198227358f, 2.63474456e-6f};
  static constexpr float kPi[] = {3.140625f, 9.67025757e-4f, 6.27711415e-7f,
                                  1.2154201e-10f};
  static constexpr float kMaxTurn = 3e4f;
};
template <>
struct VectorMathConstants<double> {
  static constexpr double kTanh[] = {
      -0.33333333333333308758,   0.13333333333294789178,
      -0.053968253869450215731,  0.02186947902594781134,
      -0.0088627987537894035971, 0.003581791786990957327,
      -0.0013334287579797761378};
  static constexpr double kAtanh[] = {
      0.33333333333333329281,  0.20000000000007291337,  0.14285714283554378581,
      0.11111111358713931495,  0.090908947180664290846, 0.076927850324793115517,
      0.066570721048274680752, 0.060005364047953562676, 0.044003692430723369411,
      0.080820228059717661105};
  static constexpr double kSin[] = {
      -0.16666666666666666633,    0.0083333333333333158566,
      -0.00019841269841254964881, 2.7557319219160832591e-6,
      -2.5052107616690449819e-8,  1.6058977292642742897e-10,
      -7.643969663988074354e-13,  2.7314368769379891871e-15};
  static constexpr double kPi[] = {3.1415926516056060791,
                                   1.984187154857597335e-9,
                                   4.5034835483124353026e-18};
  static constexpr double kMaxTurn = 1e6;
};

// x + x^3 (c[0] + c[1] x^2 + ...): the small correction is added last, so the
// rounding errors of the polynomial do not count.
template <class D, class V, size_t N>
HWY_INLINE V OddPolynomial(D d, V x, const hn::TFromD<D> (&c)[N]) {
  const V x2 = hn::Mul(x, x);
  V sum = hn::Set(d, c[N - 1]);
  for (size_t i = N - 1; i-- > 0;) sum = hn::MulAdd(sum, x2, hn::Set(d, c[i]));
  return hn::MulAdd(hn::Mul(x, x2), sum, x);
}

// e^-|x|, by way of the sign bit.
template <class D, class V>
HWY_INLINE V ExpMinusAbs(D d, V x) {
  return FastExpNonPositive(d, hn::Or(x, hn::SignBit(d)));
}

// log(1 + z) for 0 <= z <= 1, as 2 atanh(z / (2 + z)): no exponent to take
// apart, and small z keep their relative accuracy.
template <class D, class V>
HWY_INLINE V Log1pUnit(D d, V z) {
  using C = VectorMathConstants<hn::TFromD<D>>;
  const V s = hn::Div(z, hn::Add(z, hn::Set(d, 2)));
  const V half = OddPolynomial(d, s, C::kAtanh);
  return hn::Add(half, half);
}

// x, but finite where x is -inf, so that x * 0 is 0 in that limit.
template <class D, class V>
HWY_INLINE V AboveMinusInfinity(D d, V x) {
  return ClampBelow(d, x, hwy::LowestValue<hn::TFromD<D>>());
}

// sigmoid(x) and sigmoid(-x) = 1 - sigmoid(x), neither by subtraction.
template <class V>
struct SigmoidPair {
  V of_x, of_minus_x;

  template <class D>
  HWY_INLINE SigmoidPair(D d, V x) {
    const V z = ExpMinusAbs(d, x);
    const V one = hn::Set(d, 1);
    const V greater = hn::Div(one, hn::Add(one, z));
    const V less = hn::Mul(z, greater);
    const auto negative = hn::Lt(x, hn::Zero(d));
    of_x = hn::IfThenElse(negative, less, greater);
    of_minus_x = hn::IfThenElse(negative, greater, less);
  }
};

// a sigmoid(x) with a single division.
template <class D, class V>
HWY_INLINE V TimesSigmoid(D d, V a, V x) {
  const V z = ExpMinusAbs(d, x);
  const V numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(a, z), a);
  return hn::Div(numerator, hn::Add(z, hn::Set(d, 1)));
}

struct Identity {
  template <class D, class V>
  HWY_INLINE V operator()(D /*d*/, V x) const {
    return x;
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V /*x*/) const {
    return hn::Set(d, 1);
  }
};

struct Exp {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return FastExp(d, x);
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    return FastExp(d, x);
  }
};

struct Sigmoid {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return TimesSigmoid(d, hn::Set(d, 1), x);
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    const SigmoidPair<V> s(d, x);
    return hn::Mul(s.of_x, s.of_minus_x);
  }
};

struct Silu {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    x = AboveMinusInfinity(d, x);
    return TimesSigmoid(d, x, x);
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    const SigmoidPair<V> s(d, x);
    return hn::MulAdd(hn::Mul(s.of_x, s.of_minus_x), AboveMinusInfinity(d, x),
                      s.of_x);
  }
};

// (1 + tanh(u)) / 2 = sigmoid(2u), so this is x sigmoid(kA x + kB x^3).
struct Gelu {
  static constexpr double kA = 1.5957691216057308;  // 2 sqrt(2 / pi)
  static constexpr double kB = kA * 0.044715;

  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    x = AboveMinusInfinity(d, x);
    return TimesSigmoid(d, x, Argument(d, x, hn::Mul(x, x)));
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    using T = hn::TFromD<D>;
    x = AboveMinusInfinity(d, x);
    const V x2 = hn::Mul(x, x);
    const SigmoidPair<V> s(d, Argument(d, x, x2));
    // Bounded, because this factor must not be infinite where the other is 0.
    const V slope = hn::MulAdd(hn::Min(x2, hn::Set(d, T{1e6})),
                               hn::Set(d, static_cast<T>(3 * kB)),
                               hn::Set(d, static_cast<T>(kA)));
    return hn::MulAdd(hn::Mul(hn::Mul(s.of_x, s.of_minus_x), x), slope, s.of_x);
  }

 private:
  template <class D, class V>
  HWY_INLINE V Argument(D d, V x, V x2) const {
    using T = hn::TFromD<D>;
    return hn::Mul(x, hn::MulAdd(x2, hn::Set(d, static_cast<T>(kB)),
                                 hn::Set(d, static_cast<T>(kA))));
  }
};

struct Relu {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);  // keeps NaN
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    return hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), hn::Set(d, 1));
  }
};

struct Tanh {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    using T = hn::TFromD<D>;
    using C = VectorMathConstants<T>;
    const V one = hn::Set(d, 1);
    const V z = ExpMinusAbs(d, hn::Add(x, x));
    const V large = hn::Div(hn::Sub(one, z), hn::Add(one, z));
    // 1 - z cancels near 0.
    return hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, T{0.25})),
                          OddPolynomial(d, x, C::kTanh),
                          hn::CopySignToAbs(large, x));
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    const SigmoidPair<V> s(d, hn::Add(x, x));
    return hn::Mul(hn::Set(d, 4), hn::Mul(s.of_x, s.of_minus_x));
  }
};

struct Softplus {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::Add(hn::Max(x, hn::Zero(d)), Log1pUnit(d, ExpMinusAbs(d, x)));
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    return Sigmoid()(d, x);
  }
};

struct LogSigmoid {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::Sub(hn::Min(x, hn::Zero(d)), Log1pUnit(d, ExpMinusAbs(d, x)));
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    return Sigmoid()(d, hn::Neg(x));
  }
};

struct EluPlusOne {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Add(x, hn::Set(d, 1)),
                          FastExpNonPositive(d, x));
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    return hn::IfThenElse(hn::Gt(x, hn::Zero(d)), hn::Set(d, 1),
                          FastExpNonPositive(d, x));
  }
};

// The sine (kCosine: the cosine) by way of the nearest multiple m pi of integer
// (half integer) m: what is left is at most pi / 2, and m's parity is the sign.
struct Sin {
  template <class D, class V>
  HWY_INLINE V operator()(D d, V x) const {
    return Anywhere<false>(d, x);
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D d, V x) const {
    return Anywhere<true>(d, x);
  }

 private:
  template <bool kCosine, class D, class V>
  static HWY_INLINE V Near(D d, V x) {
    using T = hn::TFromD<D>;
    using C = VectorMathConstants<T>;
    constexpr double kInversePi = 0.31830988618379067154;
    const hn::RebindToUnsigned<D> du;
    const V round = hn::Set(d, ExpConstants<T>::kRound);
    const V half = hn::Set(d, static_cast<T>(kCosine ? 0.5 : 0));
    const V turns = hn::MulSub(x, hn::Set(d, static_cast<T>(kInversePi)), half);
    const V rounded = hn::Add(turns, round);
    const V m = hn::Add(hn::Sub(rounded, round), half);
    V rest = x;
    for (const T part : C::kPi) {
      rest = hn::NegMulAdd(m, hn::Set(d, part), rest);
    }
    const V y = OddPolynomial(d, kCosine ? hn::Neg(rest) : rest, C::kSin);
    constexpr int kSignBit = 8 * sizeof(T) - 1;
    return hn::Xor(
        y, hn::BitCast(d, hn::ShiftLeft<kSignBit>(hn::BitCast(du, rounded))));
  }

  // Beyond kMaxTurn, where a model has no business, the C library's.
  template <bool kCosine, class D, class V>
  static HWY_INLINE V Anywhere(D d, V x) {
    using T = hn::TFromD<D>;
    constexpr T kLimit = VectorMathConstants<T>::kMaxTurn;
    const V near = Near<kCosine>(d, x);
    if (hn::AllTrue(d, hn::Le(hn::Abs(x), hn::Set(d, kLimit)))) return near;
    HWY_ALIGN T arguments[hn::MaxLanes(D())];
    HWY_ALIGN T results[hn::MaxLanes(D())];
    hn::Store(x, d, arguments);
    hn::Store(near, d, results);
    for (size_t i = 0; i < hn::Lanes(d); ++i) {
      if (std::abs(arguments[i]) <= kLimit) continue;
      results[i] = kCosine ? std::cos(arguments[i]) : std::sin(arguments[i]);
    }
    return hn::Load(d, results);
  }
};

struct Square {
  template <class D, class V>
  HWY_INLINE V operator()(D /*d*/, V x) const {
    return hn::Mul(x, x);
  }
  template <class D, class V>
  HWY_INLINE V Derivative(D /*d*/, V x) const {
    return hn::Add(x, x);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_VECTOR_MATH_INL_H_
