// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/wkv.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/wkv.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "attention/kernels/wkv_blocks-inl.h"
#include "attention/kernels/wkv_scan-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace wkv {
namespace hn = hwy::HWY_NAMESPACE;

// The tokens one by one, each through all channels.
template <typename T>
HWY_FLATTEN void ForwardByTokens(const Wkv<T>& s, size_t end, T* state,
                                 MatrixView<T> y, T* saved) {
  const hn::ScalableTag<T> d;
  const size_t channels = s.k.cols;
  for (size_t t = 0; t < s.k.rows; ++t) {
    // Of one's own, as `s` may be what a store overwrites.
    const T* const k = s.k.row(t) + s.begin;
    const T* const v = s.v.row(t) + s.begin;
    const T* const w = s.w + s.begin;
    const T* const u = s.u + s.begin;
    T* const to = y.row(t) + s.begin;
    T* const states = state + s.begin;
    T* const before = saved == nullptr
                          ? nullptr
                          : saved + t * WkvStateSize(channels) + s.begin;
    ForEachVector(d, end - s.begin, [=](size_t c, const auto& access) HWY_ATTR {
      auto of_vector = LoadState(access, channels, states + c);
      if (before != nullptr) {
        StoreState(of_vector, access, channels, before + c);
      }
      const auto read =
          ScanToken(d, access.Load(k + c), access.Load(v + c),
                    access.Load(w + c), access.Load(u + c), &of_vector);
      access.Store(hn::Div(read.num, read.den), to + c);
      StoreState(of_vector, access, channels, states + c);
    });
  }
}

// Blocks run through all channels, which reads memory in its order.
template <typename T>
HWY_FLATTEN void ForwardByBlocks(const Wkv<T>& s, size_t end, T* state,
                                 MatrixView<T> y, T* saved) {
  const size_t length = s.k.rows, channels = s.k.cols;
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  const size_t vectors = (end - s.begin + lanes - 1) / lanes;
  T *slots = nullptr, *factors = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    slots = take(vectors * kSlots * lanes);
    factors = take(vectors * kFactors * lanes);
  });
  LoadFactors(s, end, factors);
  LoadSlots(s, end, state, factors, slots);
  const size_t chunk = std::min(s.chunk, length);
  for (size_t begin = 0; begin < length; begin += chunk) {
    if (saved != nullptr) {
      StoreSlots(s, end, slots, saved + begin / chunk * WkvStateSize(channels));
    }
    const size_t last = std::min(length, begin + chunk);
    size_t t = begin;
    for (; t + kBlock <= last; t += kBlock) {
      Blocks<kBlock, true>(s, t, end, factors, slots, slots, y);
    }
    for (; t < last; ++t) Blocks<1, true>(s, t, end, factors, slots, slots, y);
  }
  StoreSlots(s, end, slots, state);
}

template <typename T>
HWY_FLATTEN void Forward(const Wkv<T>& s, T* state, MatrixView<T> y, T* saved) {
  const size_t end = std::min(s.end, s.k.cols);
  if (s.begin >= end) return;
  // For one token e^w and e^u would be two more exponentials.
  if (std::min(s.chunk, s.k.rows) > 1) {
    ForwardByBlocks(s, end, state, y, saved);
  } else {
    ForwardByTokens(s, end, state, y, saved);
  }
}

}  // namespace wkv

void WkvForwardFloat(const Wkv<float>& s, float* state, MatrixView<float> y,
                     float* saved) {
  wkv::Forward(s, state, y, saved);
}
void WkvForwardDouble(const Wkv<double>& s, double* state, MatrixView<double> y,
                      double* saved) {
  wkv::Forward(s, state, y, saved);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(WkvForwardFloat);
HWY_EXPORT(WkvForwardDouble);

void WkvForward(const Wkv<float>& s, float* state, MatrixView<float> y,
                float* saved) {
  HWY_DYNAMIC_DISPATCH(WkvForwardFloat)(s, state, y, saved);
}
void WkvForward(const Wkv<double>& s, double* state, MatrixView<double> y,
                double* saved) {
  HWY_DYNAMIC_DISPATCH(WkvForwardDouble)(s, state, y, saved);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
