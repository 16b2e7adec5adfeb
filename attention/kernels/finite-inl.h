// SPDX-License-Identifier: Apache-2.0
//
// Whether numbers are finite. 0 times an infinity or NaN is NaN, which tiles
// that multiply hidden tokens by weights of 0 would spread.

#if defined(MNEME_ATTENTION_KERNELS_FINITE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_FINITE_INL_H_
#undef MNEME_ATTENTION_KERNELS_FINITE_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_FINITE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/kernels/bf16.h"
#include "attention/kernels/matrix.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Of vectors that pass through on their way to something else. Two of them, so
// that the latency of a sum is no wait.
class FiniteCheck {
 public:
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;

  HWY_INLINE FiniteCheck() : first_(hn::Zero(D())), second_(first_) {}
  HWY_INLINE V First(V x) { return Add(x, &first_); }
  HWY_INLINE V Second(V x) { return Add(x, &second_); }
  HWY_INLINE bool Passed() const {
    return hn::AllTrue(D(), hn::Eq(hn::Add(first_, second_), hn::Zero(D())));
  }

 private:
  static HWY_INLINE V Add(V x, V* sum) {
    *sum = hn::MulAdd(hn::Zero(D()), x, *sum);
    return x;
  }

  V first_, second_;
};

inline HWY_MAYBE_UNUSED bool AllFinite(MatrixView<const float> m) {
  constexpr size_t kChains = 4;
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto zero = hn::Zero(d);
  hn::Vec<decltype(d)> sums[kChains] = {zero, zero, zero, zero};
  for (size_t r = 0; r < m.rows; ++r) {
    const float* const row = m.row(r);
    size_t c = 0;
    for (; c + kChains * lanes <= m.cols; c += kChains * lanes) {
      HWY_UNROLL(4) for (size_t i = 0; i < kChains; ++i) {
        sums[i] = hn::MulAdd(zero, hn::LoadU(d, row + c + i * lanes), sums[i]);
      }
    }
    for (; c < m.cols; ++c) {
      sums[0] = hn::MulAdd(zero, hn::Set(d, row[c]), sums[0]);
    }
  }
  const auto sum =
      hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]));
  return hn::AllTrue(d, hn::Eq(sum, zero));
}

// Whether no number is infinite or NaN: the exponent's bits are all ones then.
inline HWY_MAYBE_UNUSED bool AllFinite(MatrixView<const Bf16> m) {
  constexpr uint16_t kMagnitude = 0x7FFF, kInfinity = 0x7F80;
  const hn::ScalableTag<uint16_t> d;
  const auto magnitude = hn::Set(d, kMagnitude);
  auto greatest = hn::Zero(d);
  uint16_t greatest_left = 0;
  for (size_t r = 0; r < m.rows; ++r) {
    const uint16_t* const row = &m.row(r)->bits;
    size_t c = 0;
    for (; c + hn::Lanes(d) <= m.cols; c += hn::Lanes(d)) {
      greatest = hn::Max(greatest, hn::And(hn::LoadU(d, row + c), magnitude));
    }
    for (; c < m.cols; ++c) {
      greatest_left = std::max<uint16_t>(greatest_left, row[c] & kMagnitude);
    }
  }
  HWY_ALIGN uint16_t lanes[hn::MaxLanes(d)];
  hn::Store(greatest, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    greatest_left = std::max(greatest_left, lanes[i]);
  }
  return greatest_left < kInfinity;
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_FINITE_INL_H_
