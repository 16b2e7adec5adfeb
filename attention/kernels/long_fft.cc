// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/long_fft.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/long_fft.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/kissfft-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace fft {
namespace hn = hwy::HWY_NAMESPACE;

// A column of 2 n real numbers is the polynomial of degree 2 n - 1 that has
// them as coefficients. Modulo z^n - i it is n complex ones, x[t] + i x[t + n],
// and its values at the n roots of z^n = i are its spectrum: their product is
// that of the polynomials modulo z^{2 n} + 1. That is a transform of numbers
// twisted by e^{i pi t / (2 n)}, without the usual pass that takes apart two
// real transforms which are one complex transform; and of a column half of
// which is zeros, or of whose product half is asked for, the twist is half.
//
// A spectrum is bins of a real part and an imaginary one, two vectors each.
// Those of as many columns as these have lanes are one; they follow one
// another, and lanes without a column hold whatever. In sums of products the
// two parts are exchanged: with them exchanged before and after, a transform is
// its inverse.
//
// Transforms are scaled by about the root of 1 / n, a power of two, so that
// products are no larger than what they are transforms of.
template <typename T>
class TargetPlan : public LongFft<T>::Plan {
 public:
  explicit TargetPlan(size_t size)
      : bins_(size / 2), transforms_(bins_, /*inverse=*/false) {
    const double step = std::acos(-1.0) / static_cast<double>(size);
    double scale = 1;
    while (scale * scale * static_cast<double>(bins_) > 1) scale /= 2;
    for (size_t t = 0; t < bins_; ++t) {
      twist_.push_back(static_cast<std::complex<T>>(
          std::polar(scale, step * static_cast<double>(t))));
    }
    // With that of twist_ and those of two factors.
    rest_ = static_cast<T>(
        1 / (static_cast<double>(bins_) * scale * scale * scale));
  }

  size_t Size(size_t columns) const override {
    return recurrence::RoundUp(columns, kColumns) * 2 * bins_;
  }

  void Transform(MatrixView<const T> x, T* to) const override {
    T* const twisted = recurrence::ScratchBlock<T>(bins_ * kBin);
    for (size_t first = 0; first < x.cols; first += kColumns) {
      ForEachVectors(x.cols - first,
                     [&](auto count, size_t c, const auto& access) HWY_ATTR {
                       Twist<count>(x, first + c, access, twisted + c);
                     });
      TransformBins(twisted, to + first * 2 * bins_);
    }
  }
  void AddInverse(const T* spectra, size_t begin,
                  MatrixView<T> y) const override {
    T* const twisted = recurrence::ScratchBlock<T>(bins_ * kBin);
    for (size_t first = 0; first < y.cols; first += kColumns) {
      TransformBins(spectra + first * 2 * bins_, twisted);
      ForEachVectors(y.cols - first, [&](auto count, size_t c,
                                         const auto& access) HWY_ATTR {
        AddUntwisted<count>(twisted + c, begin, y, first + c, access);
      });
    }
  }

  // A bin of all spectra, then the next one: what belongs to it fits the first
  // cache level. No CPU guesses so many places at once where it goes on, so
  // beyond the second level they are asked for ahead.
  void Convolve(const T* const* a, const T* const* b, size_t first, size_t last,
                size_t size, T* const* sums) const override {
    const bool ahead = last * size > kNear;
    for (size_t at = 0; at < size; at += kBin) {
      const size_t next = at + kBin;
      if (ahead && next < size) {
        for (size_t i = 0; i < last; ++i) {
          Prefetch(a[i] + next);
          Prefetch(b[i] + next);
        }
        for (size_t i = first; i <= last; ++i) Prefetch(sums[i - first] + next);
      }
      // Two sums at a time, which share b: their loads keep up with the
      // multiply-adds.
      size_t i = first;
      for (; i < last; i += 2) AddSums<2>(a, b, i, at, sums + i - first);
      if (i == last) AddSums<1>(a, b, i, at, sums + i - first);
    }
  }

 private:
  using V = hn::VFromD<D<T>>;
  static constexpr D<T> d{};
  static constexpr size_t kLanes = hn::MaxLanes(d);
  // Columns of a number, which is as many vectors, and what a bin takes.
  static constexpr size_t kVectors = 2, kColumns = kVectors * kLanes;
  static constexpr size_t kBin = 2 * kColumns;
  // Numbers of a, of b and of sums that the second cache level holds.
  static constexpr size_t kNear = (size_t{1} << 18) / sizeof(T);

  // body(count, c, access) for `count` vectors from column c on at a time, of a
  // number's columns or the few of them that there are.
  template <class Body>
  static HWY_INLINE void ForEachVectors(size_t columns, const Body& body) {
    if (columns >= kColumns) {
      body(std::integral_constant<size_t, kVectors>(), 0, AllLanes<D<T>>());
    } else {
      ForEachVector(d, columns, [&](size_t c, const auto& access) HWY_ATTR {
        body(std::integral_constant<size_t, 1>(), c, access);
      });
    }
  }

  void TransformBins(const T* from, T* to) const {
    transforms_.transform(reinterpret_cast<const Complex<T>*>(from),
                          reinterpret_cast<Complex<T>*>(to));
  }

  template <size_t kCount, class Access>
  HWY_FLATTEN HWY_NOINLINE void Twist(MatrixView<const T> x, size_t c,
                                      const Access& access, T* to) const {
    // Numbers of which a real part and an imaginary one are rows, or fewer.
    const auto twist = [&](auto parts, size_t begin, size_t end) HWY_ATTR {
      for (size_t t = begin; t < end; ++t) {
        const V cosine = hn::Set(d, twist_[t].real());
        const V sine = hn::Set(d, twist_[t].imag());
        Unroll<kCount>([&](auto v) HWY_ATTR {
          V re = hn::Zero(d), im = hn::Zero(d);
          if constexpr (parts > 0) {
            const V real = access.Load(x.row(t) + c + v * kLanes);
            re = hn::Mul(real, cosine);
            im = hn::Mul(real, sine);
          }
          if constexpr (parts > 1) {
            const V imag = access.Load(x.row(t + bins_) + c + v * kLanes);
            re = hn::NegMulAdd(imag, sine, re);
            im = hn::MulAdd(imag, cosine, im);
          }
          hn::Store(re, d, to + t * kBin + v * kLanes);
          hn::Store(im, d, to + t * kBin + kColumns + v * kLanes);
        });
      }
    };
    const size_t reals = std::min(x.rows, bins_), both = x.rows - reals;
    twist(std::integral_constant<int, 2>(), 0, both);
    twist(std::integral_constant<int, 1>(), both, reals);
    twist(std::integral_constant<int, 0>(), reals, bins_);
  }

  // Adds rows from `begin` on.
  template <size_t kCount, class Access>
  HWY_FLATTEN HWY_NOINLINE void AddUntwisted(const T* from, size_t begin,
                                             MatrixView<T> y, size_t c,
                                             const Access& access) const {
    const T rest = rest_;
    const auto add = [&](auto imag, size_t first, size_t last) HWY_ATTR {
      for (size_t r = first; r < last; ++r) {
        const size_t t = begin + r - (imag ? bins_ : 0);
        const V cosine = hn::Set(d, rest * twist_[t].real());
        const V sine = hn::Set(d, rest * twist_[t].imag());
        Unroll<kCount>([&](auto v) HWY_ATTR {
          const T* const bin = from + t * kBin + v * kLanes;
          const V im = hn::Load(d, bin), re = hn::Load(d, bin + kColumns);
          T* const to = y.row(r) + c + v * kLanes;
          const V sum = access.Load(to);
          if constexpr (imag) {
            access.Store(hn::MulAdd(im, cosine, hn::NegMulAdd(re, sine, sum)),
                         to);
          } else {
            access.Store(hn::MulAdd(re, cosine, hn::MulAdd(im, sine, sum)), to);
          }
        });
      }
    };
    const size_t reals = std::min(y.rows, bins_ - std::min(begin, bins_));
    add(std::false_type(), 0, reals);
    add(std::true_type(), reals, y.rows);
  }

  static HWY_INLINE void Prefetch(const T* bin) {
    constexpr size_t kLine = 64 / sizeof(T);
    for (size_t i = 0; i < kBin; i += kLine) hwy::Prefetch(bin + i);
  }

  // sums[s] = sum_{j < i + s} a[i + s - 1 - j] b[j].
  template <size_t kSums>
  static HWY_NOINLINE void AddSums(const T* const* a, const T* const* b,
                                   size_t i, size_t at, T* const* sums) {
    V re[kSums][kVectors], im[kSums][kVectors];
    const auto add = [&](auto s, size_t j) HWY_ATTR {
      const T *x = a[i + s - 1 - j] + at, *y = b[j] + at;
      Unroll<kVectors>([&](auto k) HWY_ATTR {
        const V x_re = hn::Load(d, x + k * kLanes);
        const V x_im = hn::Load(d, x + kColumns + k * kLanes);
        const V y_re = hn::Load(d, y + k * kLanes);
        const V y_im = hn::Load(d, y + kColumns + k * kLanes);
        re[s][k] = hn::NegMulAdd(x_im, y_im, hn::MulAdd(x_re, y_re, re[s][k]));
        im[s][k] = hn::MulAdd(x_im, y_re, hn::MulAdd(x_re, y_im, im[s][k]));
      });
    };
    Unroll<kSums>([&](auto s) HWY_ATTR {
      Unroll<kVectors>([&](auto k)
                           HWY_ATTR { re[s][k] = im[s][k] = hn::Zero(d); });
    });
    for (size_t j = 0; j < i; ++j) {
      Unroll<kSums>([&](auto s) HWY_ATTR { add(s, j); });
    }
    if constexpr (kSums == 2) add(std::integral_constant<size_t, 1>(), i);
    Unroll<kSums>([&](auto s) HWY_ATTR {
      Unroll<kVectors>([&](auto k) HWY_ATTR {
        hn::Store(im[s][k], d, sums[s] + at + k * kLanes);
        hn::Store(re[s][k], d, sums[s] + at + kColumns + k * kLanes);
      });
    });
  }

  const size_t bins_;
  const Transforms<T> transforms_;
  std::vector<std::complex<T>> twist_;  // times the scale
  T rest_;                              // of the inverse's scale
};

// A plan of this thread, which keeps it: a few tables of sines take as long as
// short sequences.
template <typename T>
std::shared_ptr<const TargetPlan<T>> ThreadPlan(size_t size) {
  thread_local std::map<size_t, std::shared_ptr<const TargetPlan<T>>> plans;
  std::shared_ptr<const TargetPlan<T>>& plan = plans[size];
  if (plan == nullptr) plan = std::make_shared<const TargetPlan<T>>(size);
  return plan;
}

}  // namespace fft

std::shared_ptr<const LongFft<float>::Plan> FftPlanF32(size_t size) {
  return fft::ThreadPlan<float>(size);
}
std::shared_ptr<const LongFft<double>::Plan> FftPlanF64(size_t size) {
  return fft::ThreadPlan<double>(size);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {
namespace {

HWY_EXPORT(FftPlanF32);
HWY_EXPORT(FftPlanF64);

template <typename T>
std::shared_ptr<const typename LongFft<T>::Plan> ThreadPlan(size_t size) {
  if constexpr (std::is_same<T, float>::value) {
    return HWY_DYNAMIC_DISPATCH(FftPlanF32)(size);
  } else {
    return HWY_DYNAMIC_DISPATCH(FftPlanF64)(size);
  }
}

}  // namespace

size_t FftSize(size_t rows) {
  size_t size = 4;
  while (size < rows) size *= 2;
  return size;
}

// Within a page of memory each begins elsewhere than the one before: what is
// multiplied with one another must not compete for the same cache sets.
template <typename T>
T* Spectra<T>::Resize(size_t size) {
  constexpr size_t kPage = 4096, kStep = 256;
  if (size > capacity_) {
    size_ = capacity_ = 0;
    data_ = hwy::AllocateAligned<T>(size + kPage / sizeof(T));
    if (data_ == nullptr) throw std::bad_alloc();
    capacity_ = size;
    thread_local size_t place = 0;
    place += kStep;
    const size_t address = reinterpret_cast<uintptr_t>(data_.get());
    begin_ = data_.get() + (place - address) % kPage / sizeof(T);
  }
  size_ = size;
  return begin_;
}

template <typename T>
LongFft<T>::LongFft(size_t size) : size_(size) {
  assert(size == FftSize(size));
  plan_ = ThreadPlan<T>(size);
}

template <typename T>
void LongFft<T>::Transform(MatrixView<const T> x, Spectra<T>* result) const {
  plan_->Transform(x, result->Resize(plan_->Size(x.cols)));
}

template <typename T>
void LongFft<T>::Convolve(const std::vector<Spectra<T>>& a,
                          const std::vector<Spectra<T>>& b, size_t first,
                          size_t last, std::vector<Spectra<T>>* sums) const {
  const size_t size = a[0].size_;
  std::vector<const T*> x, y;
  std::vector<T*> to;
  for (size_t i = 0; i < last; ++i) {
    x.push_back(a[i].begin_);
    y.push_back(b[i].begin_);
  }
  if (sums->size() < last - first + 1) sums->resize(last - first + 1);
  for (size_t i = first; i <= last; ++i) {
    to.push_back((*sums)[i - first].Resize(size));
  }
  plan_->Convolve(x.data(), y.data(), first, last, size, to.data());
}

template <typename T>
void LongFft<T>::AddInverse(const Spectra<T>& spectra, size_t first,
                            MatrixView<T> y) const {
  plan_->AddInverse(spectra.begin_, first, y);
}

template class Spectra<float>;
template class Spectra<double>;
template class LongFft<float>;
template class LongFft<double>;

}  // namespace mneme::kernels
#endif  // HWY_ONCE
