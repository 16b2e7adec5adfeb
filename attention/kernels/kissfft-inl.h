// SPDX-License-Identifier: Apache-2.0
//
// kissfft's transform of vectors, in which every lane is a transform of its
// own: its text, a template over the numbers, once for each SIMD target.
//
//   const Transforms<T> fft(n, /*inverse=*/false);
//   fft.transform(from, to);  // n bins each, apart from one another
//
// n is a power of two, fastest as a power of four.

#if defined(MNEME_ATTENTION_KERNELS_KISSFFT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_KISSFFT_INL_H_
#undef MNEME_ATTENTION_KERNELS_KISSFFT_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_KISSFFT_INL_H_
#endif

#include <cmath>
#include <complex>
#include <cstddef>
#include <utility>
#include <vector>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace fft {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
using D = hn::ScalableTag<T>;

// Two vectors as a number, which the calls and the loads of what is the same in
// all lanes are shared by. Those that kissfft makes of integers are such.
template <typename T>
struct Number {
  using V = hn::VFromD<D<T>>;
  V low, high;

  Number() = default;
  HWY_INLINE Number(V low, V high) : low(low), high(high) {}
  HWY_INLINE Number(double x)  // NOLINT: implicit, like a number's
      : low(hn::Set(D<T>(), static_cast<T>(x))), high(low) {}

  double First() const { return static_cast<double>(hn::GetLane(low)); }

  friend HWY_INLINE Number operator+(const Number& a, const Number& b) {
    return {hn::Add(a.low, b.low), hn::Add(a.high, b.high)};
  }
  friend HWY_INLINE Number operator-(const Number& a, const Number& b) {
    return {hn::Sub(a.low, b.low), hn::Sub(a.high, b.high)};
  }
  friend HWY_INLINE Number operator*(const Number& a, const Number& b) {
    return {hn::Mul(a.low, b.low), hn::Mul(a.high, b.high)};
  }
  friend HWY_INLINE Number operator/(const Number& a, const Number& b) {
    return {hn::Div(a.low, b.low), hn::Div(a.high, b.high)};
  }
  friend HWY_INLINE Number operator-(const Number& a) {
    return {hn::Neg(a.low), hn::Neg(a.high)};
  }

  // a b + c, and c - a b.
  static HWY_INLINE Number MulAdd(const Number& a, const Number& b,
                                  const Number& c) {
    return {hn::MulAdd(a.low, b.low, c.low),
            hn::MulAdd(a.high, b.high, c.high)};
  }
  static HWY_INLINE Number NegMulAdd(const Number& a, const Number& b,
                                     const Number& c) {
    return {hn::NegMulAdd(a.low, b.low, c.low),
            hn::NegMulAdd(a.high, b.high, c.high)};
  }
};

// kissfft writes std::complex, which knows floating-point types alone, and
// whose operators would be compiled for no target: within this namespace `std`
// is the one here.
namespace kiss {
namespace std {

using ::std::size_t;
using ::std::swap;

template <typename T>
struct Turn;

template <typename N>
class complex {
 public:
  complex() = default;
  HWY_INLINE complex(const N& real, const N& imag) : real_(real), imag_(imag) {}
  template <typename T>
  HWY_INLINE complex(const Turn<T>& turn)  // NOLINT: implicit
      : real_(turn.re), imag_(turn.im) {}

  HWY_INLINE const N& real() const { return real_; }
  HWY_INLINE const N& imag() const { return imag_; }

  HWY_INLINE void operator+=(const complex& b) { *this = *this + b; }
  HWY_INLINE void operator*=(const N& b) { *this = *this * b; }

  friend HWY_INLINE complex operator+(const complex& a, const complex& b) {
    return {a.real_ + b.real_, a.imag_ + b.imag_};
  }
  friend HWY_INLINE complex operator-(const complex& a, const complex& b) {
    return {a.real_ - b.real_, a.imag_ - b.imag_};
  }
  friend HWY_INLINE complex operator*(const complex& a, const complex& b) {
    return {N::NegMulAdd(a.imag_, b.imag_, a.real_ * b.real_),
            N::MulAdd(a.imag_, b.real_, a.real_ * b.imag_)};
  }
  friend HWY_INLINE complex operator*(const complex& a, const N& b) {
    return {a.real_ * b, a.imag_ * b};
  }

 private:
  N real_, imag_;
};

// For the library's real transforms, which are not compiled.
template <typename N>
complex<N> conj(const complex<N>& x);

// Angles are counted in turns, whose parts by a power of two are exact in any
// floating-point type: float's radians would leave an error in the last bits of
// all factors.
template <typename T>
Number<T> acos(const Number<T>& x) {
  return ::std::acos(x.First()) / (2 * ::std::acos(-1.0));
}
template <typename T>
complex<Number<T>> exp(const complex<Number<T>>& x) {
  const ::std::complex<double> y = ::std::exp(::std::complex<double>(
      x.real().First(), 2 * ::std::acos(-1.0) * x.imag().First()));
  return {y.real(), y.imag()};
}

// A complex number that is the same in all lanes. The library's tables are made
// of them, which as vectors would fill the cache.
template <typename T>
struct Turn {
  T re, im;

  Turn() = default;
  Turn(const complex<Number<T>>& x)  // NOLINT: implicit
      : re(static_cast<T>(x.real().First())),
        im(static_cast<T>(x.imag().First())) {}

  // For radices that no power of two has, whose code must compile.
  const complex<Number<T>>* operator&() const { return nullptr; }
};

template <typename T>
struct Element {
  using type = T;
};
template <typename T>
struct Element<complex<Number<T>>> {
  using type = Turn<T>;
};
template <typename T>
using vector = ::std::vector<typename Element<T>::type>;

}  // namespace std
#undef KISSFFT_CLASS_HH
#include <kissfft/kissfft.hh>
}  // namespace kiss

// In memory two vectors of real parts, then two of imaginary ones.
template <typename T>
using Complex = kiss::std::complex<Number<T>>;
template <typename T>
using Transforms = kiss::kissfft<Number<T>>;

}  // namespace fft
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_KISSFFT_INL_H_
