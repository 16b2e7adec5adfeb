// SPDX-License-Identifier: Apache-2.0
//
// Between matrices [channels, state_dim], as the selective scan's callers have
// them, and vectors of channels, as its loops over tokens want them.

#if defined(MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_INL_H_
#undef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/gemm_tile-inl.h"
#include "attention/kernels/matrix.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace scan {
namespace hn = hwy::HWY_NAMESPACE;

// to [n] = entries n of the vector of rows from `first` on, up to `end`; 0
// beyond.
template <class D, typename T>
HWY_INLINE void LoadChannels(D d, MatrixView<const T> from, size_t first,
                             size_t end, T* HWY_RESTRICT to) {
  const size_t lanes = hn::Lanes(d);
  if (first + lanes <= end) {
    PackTransposedVector(StridedRows<T>{from.row(first), from.stride},
                         from.cols, to, lanes);
    return;
  }
  std::fill_n(to, from.cols * lanes, T{0});
  for (size_t e = first; e < end; ++e) {
    for (size_t n = 0; n < from.cols; ++n) {
      to[n * lanes + e - first] = from.row(e)[n];
    }
  }
}

// The same way back.
template <class D, typename T>
HWY_INLINE void StoreChannels(D d, const T* HWY_RESTRICT from, size_t first,
                              size_t end, MatrixView<T> to) {
  const size_t lanes = hn::Lanes(d);
  if (first + lanes <= end && to.cols >= lanes) {
    for (size_t n = 0; n < to.cols; n += lanes) {
      // An incomplete last vector overlaps the one before it.
      const size_t begin = std::min(n, to.cols - lanes);
      const StridedRows<T> rows{from + begin * lanes, lanes};
      for (size_t e = 0; e < lanes; e += kBlock<T>) {
        hn::Vec<D> column[kBlock<T>];
        LoadTransposed(d, rows.From(e), 0, column);
        HWY_UNROLL(4) for (size_t p = 0; p < kBlock<T>; ++p) {
          hn::StoreU(column[p], d, to.row(first + e + p) + begin);
        }
      }
    }
    return;
  }
  for (size_t e = first; e < std::min(first + lanes, end); ++e) {
    for (size_t n = 0; n < to.cols; ++n) {
      to.row(e)[n] = from[n * lanes + e - first];
    }
  }
}

}  // namespace scan
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_INL_H_
