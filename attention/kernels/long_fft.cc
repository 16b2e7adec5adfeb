// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/long_fft.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/long_fft.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace fft {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<double>;
using V = hn::VFromD<D>;

// A vector as a number, for kissfft. What it makes of integers and of the
// angles of its twiddle factors is the same in all lanes.
struct Number {
  V v;

  Number() = default;
  Number(V vector) : v(vector) {}           // NOLINT: implicit, like a
  Number(double x) : v(hn::Set(D(), x)) {}  // NOLINT: number's
  double First() const { return hn::GetLane(v); }
};

HWY_INLINE Number operator+(const Number& a, const Number& b) {
  return hn::Add(a.v, b.v);
}
HWY_INLINE Number operator-(const Number& a, const Number& b) {
  return hn::Sub(a.v, b.v);
}
HWY_INLINE Number operator*(const Number& a, const Number& b) {
  return hn::Mul(a.v, b.v);
}
HWY_INLINE Number operator/(const Number& a, const Number& b) {
  return hn::Div(a.v, b.v);
}
HWY_INLINE Number operator-(const Number& a) { return hn::Neg(a.v); }
HWY_INLINE void operator*=(Number& a, const Number& b) { a = a * b; }

// The library's own does not see how vectors are aligned, as it is compiled for
// no target.
template <typename T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <typename U>
  AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT: a conversion
  T* allocate(size_t n) {
    void* memory = hwy::AllocateAlignedBytes(n * sizeof(T), nullptr, nullptr);
    if (memory == nullptr) throw ::std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) {
    hwy::FreeAlignedBytes(memory, nullptr, nullptr);
  }
  template <typename U>
  bool operator==(const AlignedAllocator<U>&) const {
    return true;
  }
  template <typename U>
  bool operator!=(const AlignedAllocator<U>&) const {
    return false;
  }
};

// kissfft's text once for each SIMD target. It writes std::complex, which
// knows floating-point types alone, and whose operators would be compiled for
// no target: within this namespace `std` is the one here.
namespace kiss {
namespace std {

using ::std::size_t;
using ::std::swap;
template <typename T>
using vector = ::std::vector<T, AlignedAllocator<T>>;

template <typename T>
class complex {
 public:
  complex() = default;
  complex(T real, T imag) : real_(real), imag_(imag) {}
  T real() const { return real_; }
  T imag() const { return imag_; }
  void imag(T x) { imag_ = x; }

  void operator+=(const complex& b) { *this = *this + b; }
  void operator*=(const T& b) { *this = b * *this; }

 private:
  T real_, imag_;
};

template <typename T>
HWY_INLINE complex<T> operator+(const complex<T>& a, const complex<T>& b) {
  return {a.real() + b.real(), a.imag() + b.imag()};
}
template <typename T>
HWY_INLINE complex<T> operator-(const complex<T>& a, const complex<T>& b) {
  return {a.real() - b.real(), a.imag() - b.imag()};
}
template <typename T>
HWY_INLINE complex<T> operator*(const complex<T>& a, const complex<T>& b) {
  return {a.real() * b.real() - a.imag() * b.imag(),
          a.real() * b.imag() + a.imag() * b.real()};
}
template <typename T>
HWY_INLINE complex<T> operator*(const T& a, const complex<T>& b) {
  return {a * b.real(), a * b.imag()};
}
template <typename T>
HWY_INLINE complex<T> operator*(const complex<T>& a, const T& b) {
  return b * a;
}
template <typename T>
HWY_INLINE complex<T> conj(const complex<T>& x) {
  return {x.real(), -x.imag()};
}

HWY_INLINE Number acos(const Number& x) { return ::std::acos(x.First()); }
HWY_INLINE complex<Number> exp(const complex<Number>& x) {
  const ::std::complex<double> y =
      ::std::exp(::std::complex<double>(x.real().First(), x.imag().First()));
  return {y.real(), y.imag()};
}

}  // namespace std
#undef KISSFFT_CLASS_HH
#include <kissfft/kissfft.hh>
}  // namespace kiss

using Complex = kiss::std::complex<Number>;

// A spectrum is bins of a real part and an imaginary one, a vector each; that
// of the real bin in the middle is bin 0's imaginary part. Those of as many
// columns as there are lanes are one; they follow one another. A real column
// rides a complex transform of half its size, and with a power of two kissfft
// needs no scratch memory of its own.
class TargetPlan : public LongFft::Plan {
 public:
  explicit TargetPlan(size_t size)
      : bins_(size / 2), forward_(bins_, false), inverse_(bins_, true) {
    const double step = 2 * std::acos(-1.0) / static_cast<double>(size);
    for (size_t k = 0; k < bins_; ++k) {
      turns_.push_back(std::polar(1.0, step * static_cast<double>(k)));
    }
  }

  size_t Size(size_t columns) const override {
    return recurrence::RoundUp(columns, kLanes) * 2 * bins_;
  }
  void Transform(MatrixView<const float> x, double* to) const override {
    TransformColumns(x, to);
  }
  void Transform(MatrixView<const double> x, double* to) const override {
    TransformColumns(x, to);
  }
  void AddInverse(const double* spectra, size_t first,
                  MatrixView<float> y) const override {
    AddInverseOf(spectra, first, y);
  }
  void AddInverse(const double* spectra, size_t first,
                  MatrixView<double> y) const override {
    AddInverseOf(spectra, first, y);
  }

  // A few bins of all spectra, then the next ones: what belongs to them fits
  // the first cache level.
  void Convolve(const double* const* a, const double* const* b, size_t first,
                size_t last, size_t size, double* const* sums) const override {
    const size_t column = bins_ * kBin;
    for (size_t at = 0; at < size;) {
      const size_t left = column - at % column;
      if (left == column) {  // bin 0 holds two real ones
        for (size_t i = first; i <= last; ++i) {
          AddRealProducts(a, b, i, at, sums[i - first]);
        }
        at += kBin;
      } else if (left >= 2 * kBin) {
        AddProducts<2>(a, b, first, last, at, sums);
        at += 2 * kBin;
      } else {
        AddProducts<1>(a, b, first, last, at, sums);
        at += kBin;
      }
    }
  }

 private:
  static constexpr size_t kLanes = hn::MaxLanes(D());
  static constexpr size_t kBin = 2 * kLanes;

  template <typename T>
  using Narrow = std::conditional_t<std::is_same<T, float>::value,
                                    hn::Rebind<float, D>, D>;

  static V Widen(D, hn::VFromD<D> v) { return v; }
  template <class DF = hn::Rebind<float, D>>
  static V Widen(D d, hn::VFromD<hn::Rebind<float, D>> v) {
    return hn::PromoteTo(d, v);
  }

  // body(column, access) for each vector of columns.
  template <typename T, class Body>
  static HWY_INLINE void ForEachLanes(size_t columns, const Body& body) {
    ForEachVector(Narrow<T>(), columns, body);
  }

  template <typename T>
  HWY_NOINLINE void TransformColumns(MatrixView<const T> x, double* to) const {
    const D d;
    Complex* const pairs = Scratch(1);
    ForEachLanes<T>(x.cols, [&](size_t c, const auto& access) HWY_ATTR {
      const auto load = [&](size_t r) HWY_ATTR {
        return r < x.rows ? Widen(d, access.Load(x.row(r) + c)) : hn::Zero(d);
      };
      for (size_t k = 0; k < bins_; ++k) {
        pairs[k] = Complex(load(2 * k), load(2 * k + 1));
      }
      forward_.transform_real(reinterpret_cast<const Number*>(pairs),
                              reinterpret_cast<Complex*>(to + c * 2 * bins_));
    });
  }

  template <typename T>
  HWY_NOINLINE void AddInverseOf(const double* spectra, size_t first,
                                 MatrixView<T> y) const {
    const D d;
    const V half = hn::Set(d, 0.5);
    const V scale = hn::Set(d, 1 / static_cast<double>(bins_));
    Complex* const halves = Scratch(2);
    Complex* const pairs = halves + bins_;
    ForEachLanes<T>(y.cols, [&](size_t c, const auto& access) HWY_ATTR {
      const auto* in =
          reinterpret_cast<const Complex*>(spectra + c * 2 * bins_);
      // Transforms of the even and of the odd rows, from which that of (even) +
      // i (odd).
      const Number zero = in[0].real(), middle = in[0].imag();
      halves[0] = {half * (zero + middle), half * (zero - middle)};
      for (size_t k = 1; k < bins_; ++k) {
        const Complex other = conj(in[bins_ - k]);
        const Complex turn(turns_[k].real(), turns_[k].imag());
        const Complex odd = Number(half) * (in[k] - other) * turn;
        halves[k] =
            Number(half) * (in[k] + other) + Complex(-odd.imag(), odd.real());
      }
      inverse_.transform(halves, pairs);
      for (size_t r = 0; r < y.rows; ++r) {
        const Complex& pair = pairs[(first + r) / 2];
        const V value = ((first + r) % 2 == 0 ? pair.real() : pair.imag()).v;
        T* const to = y.row(r) + c;
        access.Store(AddScaled(value, scale, access.Load(to)), to);
      }
    });
  }

  static V AddScaled(V x, V scale, V to) { return hn::MulAdd(x, scale, to); }
  template <class DF = hn::Rebind<float, D>>
  static hn::VFromD<DF> AddScaled(V x, V scale,
                                  hn::VFromD<hn::Rebind<float, D>> to) {
    return hn::Add(hn::DemoteTo(DF(), hn::Mul(x, scale)), to);
  }

  // Two sums at a time, which share b: their loads keep up with the
  // multiply-adds.
  template <size_t kBins>
  static HWY_NOINLINE void AddProducts(const double* const* a,
                                       const double* const* b, size_t first,
                                       size_t last, size_t at,
                                       double* const* sums) {
    size_t i = first;
    for (; i < last; i += 2) AddSums<2, kBins>(a, b, i, at, sums + i - first);
    if (i == last) AddSums<1, kBins>(a, b, i, at, sums + i - first);
  }

  // sums[s] += sum_{j < i + s} a[i + s - 1 - j] b[j].
  template <size_t kSums, size_t kBins>
  static HWY_INLINE void AddSums(const double* const* a, const double* const* b,
                                 size_t i, size_t at, double* const* sums) {
    const D d;
    V re[kSums][kBins], im[kSums][kBins];
    const auto add = [&](auto s, size_t j) HWY_ATTR {
      const double *x = a[i + s - 1 - j] + at, *y = b[j] + at;
      Unroll<kBins>([&](auto k) HWY_ATTR {
        const V x_re = hn::Load(d, x + k * kBin);
        const V x_im = hn::Load(d, x + k * kBin + kLanes);
        const V y_re = hn::Load(d, y + k * kBin);
        const V y_im = hn::Load(d, y + k * kBin + kLanes);
        re[s][k] = hn::NegMulAdd(x_im, y_im, hn::MulAdd(x_re, y_re, re[s][k]));
        im[s][k] = hn::MulAdd(x_im, y_re, hn::MulAdd(x_re, y_im, im[s][k]));
      });
    };
    Unroll<kSums>([&](auto s) HWY_ATTR {
      Unroll<kBins>([&](auto k) HWY_ATTR {
        re[s][k] = hn::Load(d, sums[s] + at + k * kBin);
        im[s][k] = hn::Load(d, sums[s] + at + k * kBin + kLanes);
      });
    });
    for (size_t j = 0; j < i; ++j) {
      Unroll<kSums>([&](auto s) HWY_ATTR { add(s, j); });
    }
    if constexpr (kSums == 2) add(std::integral_constant<size_t, 1>(), i);
    Unroll<kSums>([&](auto s) HWY_ATTR {
      Unroll<kBins>([&](auto k) HWY_ATTR {
        hn::Store(re[s][k], d, sums[s] + at + k * kBin);
        hn::Store(im[s][k], d, sums[s] + at + k * kBin + kLanes);
      });
    });
  }

  static HWY_NOINLINE void AddRealProducts(const double* const* a,
                                           const double* const* b, size_t n,
                                           size_t at, double* sum) {
    const D d;
    for (size_t part = at; part < at + 2 * kLanes; part += kLanes) {
      V total = hn::Load(d, sum + part);
      for (size_t i = 0; i < n; ++i) {
        total = hn::MulAdd(hn::Load(d, a[n - 1 - i] + part),
                           hn::Load(d, b[i] + part), total);
      }
      hn::Store(total, d, sum + part);
    }
  }

  Complex* Scratch(size_t transforms) const {
    return reinterpret_cast<Complex*>(
        recurrence::ScratchBlock<double>(transforms * bins_ * 2 * kLanes));
  }

  const size_t bins_;
  const kiss::kissfft<Number> forward_, inverse_;
  std::vector<std::complex<double>> turns_;  // e^{2 pi i k / size}
};

}  // namespace fft

LongFft::Plan* NewFftPlan(size_t size) { return new fft::TargetPlan(size); }

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(NewFftPlan);

size_t FftSize(size_t rows) {
  size_t size = 4;
  while (size < rows) size *= 2;
  return size;
}

double* Spectra::Resize(size_t size, bool clear) {
  if (size > capacity_) {
    size_ = capacity_ = 0;
    data_ = hwy::AllocateAligned<double>(size);
    if (data_ == nullptr) throw std::bad_alloc();
    capacity_ = size;
  }
  size_ = size;
  if (clear) std::fill_n(data_.get(), size, 0);
  return data_.get();
}

LongFft::LongFft(size_t size)
    : size_(size), plan_(HWY_DYNAMIC_DISPATCH(NewFftPlan)(size)) {}
LongFft::~LongFft() = default;

void LongFft::Transform(MatrixView<const float> x, Spectra* result) const {
  plan_->Transform(x, result->Resize(plan_->Size(x.cols), false));
}
void LongFft::Transform(MatrixView<const double> x, Spectra* result) const {
  plan_->Transform(x, result->Resize(plan_->Size(x.cols), false));
}

void LongFft::MultiplyAdd(const Spectra& a, const Spectra& b,
                          Spectra* sum) const {
  if (sum->empty()) sum->Resize(a.size_, /*clear=*/true);
  const double *x = a.data_.get(), *y = b.data_.get();
  double* const to = sum->data_.get();
  plan_->Convolve(&x, &y, 1, 1, a.size_, &to);
}

void LongFft::Convolve(const std::vector<Spectra>& a,
                       const std::vector<Spectra>& b, size_t first, size_t last,
                       std::vector<Spectra>* sums) const {
  const size_t size = a[0].size_;
  std::vector<const double*> x, y;
  std::vector<double*> to;
  for (size_t i = 0; i < last; ++i) {
    x.push_back(a[i].data_.get());
    y.push_back(b[i].data_.get());
  }
  if (sums->size() < last - first + 1) sums->resize(last - first + 1);
  for (size_t i = first; i <= last; ++i) {
    to.push_back((*sums)[i - first].Resize(size, /*clear=*/true));
  }
  plan_->Convolve(x.data(), y.data(), first, last, size, to.data());
}

void LongFft::AddInverse(const Spectra& spectra, size_t first,
                         MatrixView<float> y) const {
  plan_->AddInverse(spectra.data_.get(), first, y);
}
void LongFft::AddInverse(const Spectra& spectra, size_t first,
                         MatrixView<double> y) const {
  plan_->AddInverse(spectra.data_.get(), first, y);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
