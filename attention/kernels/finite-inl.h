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

// Of vectors that pass through on their way to something else, and will not be
// infinite when they are rounded to Bf16 either. Two of them, so that the
// latency of a sum is no wait.
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
    // The greatest Bf16 stays finite, and what rounds to more does not.
    constexpr float kMargin = 1 + 0x1p-8f;
    const V grown = hn::Mul(x, hn::Set(D(), kMargin));
    *sum = hn::MulAdd(hn::Zero(D()), grown, *sum);
    return x;
  }

  V first_, second_;
};

// Whether all numbers are, rounded to Bf16.
inline HWY_MAYBE_UNUSED bool AllFinite(MatrixView<const float> m) {
  const FiniteCheck::D d;
  const size_t lanes = hn::Lanes(d);
  FiniteCheck checks[2];  // loads come by two
  for (size_t r = 0; r < m.rows; ++r) {
    const float* const row = m.row(r);
    size_t c = 0;
    for (; c + 4 * lanes <= m.cols; c += 4 * lanes) {
      checks[0].First(hn::LoadU(d, row + c));
      checks[0].Second(hn::LoadU(d, row + c + lanes));
      checks[1].First(hn::LoadU(d, row + c + 2 * lanes));
      checks[1].Second(hn::LoadU(d, row + c + 3 * lanes));
    }
    for (; c < m.cols; ++c) checks[0].First(hn::Set(d, row[c]));
  }
  return checks[0].Passed() && checks[1].Passed();
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
