// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/long_conv.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/long_conv.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace {

// Rows of y whose sums are in registers at once: as many multiply-adds as are
// in flight (4 cycles, 2 ports), each with its tap as a memory operand. A row
// of x is loaded once for all of them, and of their taps all but one are in L1
// from the row before.
constexpr size_t kRows = 8;

template <typename T>
struct Arguments {
  MatrixView<const T> x, h;
  size_t offset;
  MatrixView<T> y;

  // Rows [first, end) of x that a row t of y reads.
  size_t First(size_t t) const {
    return std::min(offset + t + 1 < h.rows ? 0 : offset + t + 1 - h.rows,
                    x.rows);
  }
  size_t End(size_t t) const { return std::min(offset + t + 1, x.rows); }
};

// Rows t, ... t + kCount - 1 of y, channels at c.
template <size_t kCount, class D, class Lanes, typename T>
HWY_INLINE void Tile(const Arguments<T>& a, size_t t, D /*d*/, size_t c,
                     const Lanes& lanes) {
  using V = hn::VFromD<D>;
  V sum[kCount];
  Unroll<kCount>([&](auto r)
                     HWY_ATTR { sum[r] = lanes.Load(a.y.row(t + r) + c); });
  // Rows of x that all rows of the tile read; each has some of its own before
  // (the filter ends) and after (the diagonal).
  const size_t first = a.First(t + kCount - 1);
  const size_t end = std::max(first, a.End(t));
  const auto edge = [&](size_t from, size_t to) HWY_ATTR {
    for (size_t s = from; s < to; ++s) {
      const V x = lanes.Load(a.x.row(s) + c);
      Unroll<kCount>([&](auto r) HWY_ATTR {
        if (s < a.First(t + r) || s >= a.End(t + r)) return;
        const V tap = lanes.Load(a.h.row(a.offset + t + r - s) + c);
        sum[r] = hn::MulAdd(tap, x, sum[r]);
      });
    }
  };
  edge(a.First(t), first);
  for (size_t s = first; s < end; ++s) {
    const V x = lanes.Load(a.x.row(s) + c);
    const T* taps = a.h.row(a.offset + t - s) + c;
    Unroll<kCount>([&](auto r) HWY_ATTR {
      sum[r] = hn::MulAdd(lanes.Load(taps + r * a.h.stride), x, sum[r]);
    });
  }
  edge(end, a.End(t + kCount - 1));
  Unroll<kCount>([&](auto r)
                     HWY_ATTR { lanes.Store(sum[r], a.y.row(t + r) + c); });
}

template <typename T>
HWY_INLINE void Convolve(const Arguments<T>& a) {
  const hn::ScalableTag<T> d;
  ForEachVector(d, a.y.cols, [&](size_t c, const auto& lanes) HWY_ATTR {
    size_t t = 0;
    for (; t + kRows <= a.y.rows; t += kRows) Tile<kRows>(a, t, d, c, lanes);
    for (; t < a.y.rows; ++t) Tile<1>(a, t, d, c, lanes);
  });
}

}  // namespace

// Flattened, so that the lambdas above are inlined.
HWY_FLATTEN void LongConvF32(MatrixView<const float> x,
                             MatrixView<const float> h, size_t offset,
                             MatrixView<float> y) {
  Convolve(Arguments<float>{x, h, offset, y});
}

HWY_FLATTEN void LongConvF64(MatrixView<const double> x,
                             MatrixView<const double> h, size_t offset,
                             MatrixView<double> y) {
  Convolve(Arguments<double>{x, h, offset, y});
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(LongConvF32);
HWY_EXPORT(LongConvF64);

void LongConv(MatrixView<const float> x, MatrixView<const float> h,
              size_t offset, MatrixView<float> y) {
  HWY_DYNAMIC_DISPATCH(LongConvF32)(x, h, offset, y);
}

void LongConv(MatrixView<const double> x, MatrixView<const double> h,
              size_t offset, MatrixView<double> y) {
  HWY_DYNAMIC_DISPATCH(LongConvF64)(x, h, offset, y);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
