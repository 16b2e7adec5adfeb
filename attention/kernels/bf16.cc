// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/bf16.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/bf16-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Round(MatrixView<const float> from, MatrixView<Bf16> to) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t r = 0; r < from.rows; ++r) {
    const float* const x = from.row(r);
    Bf16* const y = to.row(r);
    size_t c = 0;
    for (; c + lanes <= from.cols; c += lanes) {
      StoreRounded(d, hn::LoadU(d, x + c), lanes, y + c);
    }
    if (c == from.cols) continue;
    const FirstLanes<decltype(d)> rest{from.cols - c};
    StoreRounded(d, rest.Load(x + c), from.cols - c, y + c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(Round);

void RoundToBf16(MatrixView<const float> from, MatrixView<Bf16> to) {
  HWY_DYNAMIC_DISPATCH(Round)(from, to);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
