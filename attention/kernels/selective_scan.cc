// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/selective_scan.h"

#include <algorithm>
#include <cstddef>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernels/selective_scan.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/selective_scan-inl.h"
#include "attention/kernels/selective_scan_step-inl.h"
#include "attention/kernels/staged_tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace scan {
namespace hn = hwy::HWY_NAMESPACE;

// A vector of channels at a time runs through a chunk of tokens, so that its
// states stay in the first cache level. `access` is AllLanes or FirstLanes;
// lanes outside hold zeros.

// Decays that go through the exponential together: as many as registers hold,
// and a divisor of the usual state dimensions.
constexpr size_t kDecays = HWY_TARGET <= HWY_AVX3 ? 8 : 4;

// What of a token the states of a vector of channels want. rate is dt log2(e).
template <class V>
struct TokenVectors {
  V rate, input;
};

// The states n, n + 1, ... of a token, kCount of them; states and transitions
// hold a vector for each. Returns the sum with the outputs.
template <size_t kCount, class D, class V, typename T>
HWY_INLINE V ScanStates(D d, const TokenVectors<V>& token,
                        const T* HWY_RESTRICT transitions,
                        const T* HWY_RESTRICT b, const T* HWY_RESTRICT c,
                        T* HWY_RESTRICT states, V sum) {
  const size_t lanes = hn::Lanes(d);
  V decay[kCount];
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    decay[i] = hn::Mul(token.rate, hn::Load(d, transitions + i * lanes));
  }
  FastExp2NonPositive<kCount>(d, decay);
  HWY_UNROLL(8) for (size_t i = 0; i < kCount; ++i) {
    T* const at = states + i * lanes;
    const V state = hn::MulAdd(decay[i], hn::Load(d, at),
                               hn::Mul(token.input, hn::Set(d, b[i])));
    hn::Store(state, d, at);
    sum = hn::MulAdd(hn::Set(d, c[i]), state, sum);
  }
  return sum;
}

// The tokens [begin, end) of the vector of channels from `col` on. transitions
// and states hold a vector for each n.
template <class D, class Access, typename T>
HWY_NOINLINE void ScanVector(D d, const SelectiveScan<T>& s, size_t begin,
                             size_t end, size_t col, const Access& access,
                             const T* HWY_RESTRICT transitions,
                             T* HWY_RESTRICT states, MatrixView<T> y) {
  using V = hn::VFromD<D>;
  const size_t state_dim = s.a.cols, lanes = hn::Lanes(d);
  const V log2e = hn::Set(d, ExpConstants<T>::kLog2E);
  const V skip = s.d == nullptr ? hn::Zero(d) : access.Load(s.d + col);
  for (size_t t = begin; t < end; ++t) {
    const V x = access.Load(s.x.row(t) + col);
    const V dt = access.Load(s.dt.row(t) + col);
    const T *b = s.b.row(t), *c = s.c.row(t);
    const TokenVectors<V> token = {hn::Mul(dt, log2e), hn::Mul(dt, x)};
    V sum = hn::Mul(skip, x);
    size_t n = 0;
    for (; n + kDecays <= state_dim; n += kDecays) {
      sum = ScanStates<kDecays>(d, token, transitions + n * lanes, b + n, c + n,
                                states + n * lanes, sum);
    }
    for (; n < state_dim; ++n) {
      sum = ScanStates<1>(d, token, transitions + n * lanes, b + n, c + n,
                          states + n * lanes, sum);
    }
    access.Store(sum, y.row(t) + col);
  }
}

template <typename T>
HWY_FLATTEN void Forward(const SelectiveScan<T>& s, T* state, MatrixView<T> y,
                         T* saved) {
  const hn::ScalableTag<T> d;
  const size_t length = s.x.rows, channels = s.x.cols, state_dim = s.a.cols;
  const size_t last = std::min(s.end, channels);
  if (s.begin >= last) return;
  const MatrixView<T> all(state, channels, state_dim);
  if (length == 1 && state != nullptr && saved == nullptr) {
    Step(d, s, s.begin, last, all, y.row(0));
    return;
  }
  const size_t chunk = std::min(s.chunk, length);
  T *states = nullptr, *transitions = nullptr;
  recurrence::LayOutScratch<T>([&](const auto& take) {
    states = take(state_dim * hn::Lanes(d));
    transitions = take(state_dim * hn::Lanes(d));
  });
  ForEachVector(d, last - s.begin, [&](size_t c, const auto& access) HWY_ATTR {
    const size_t col = s.begin + c;
    LoadChannels(d, s.a, col, last, transitions);
    if (state == nullptr) {
      std::fill_n(states, state_dim * hn::Lanes(d), T{0});
    } else {
      LoadChannels(d, MatrixView<const T>(all), col, last, states);
    }
    for (size_t begin = 0; begin < length; begin += chunk) {
      if (saved != nullptr) {
        T* const to = saved + begin / chunk * state_dim * channels + col;
        for (size_t n = 0; n < state_dim; ++n) {
          access.Store(hn::Load(d, states + n * hn::Lanes(d)),
                       to + n * channels);
        }
      }
      ScanVector(d, s, begin, std::min(length, begin + chunk), col, access,
                 transitions, states, y);
    }
    if (state != nullptr) StoreChannels(d, states, col, last, all);
  });
}

}  // namespace scan

void ScanForwardFloat(const SelectiveScan<float>& s, float* state,
                      MatrixView<float> y, float* saved) {
  scan::Forward(s, state, y, saved);
}
void ScanForwardDouble(const SelectiveScan<double>& s, double* state,
                       MatrixView<double> y, double* saved) {
  scan::Forward(s, state, y, saved);
}
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme::kernels {

HWY_EXPORT(ScanForwardFloat);
HWY_EXPORT(ScanForwardDouble);

void SelectiveScanForward(const SelectiveScan<float>& s, float* state,
                          MatrixView<float> y, float* saved) {
  HWY_DYNAMIC_DISPATCH(ScanForwardFloat)(s, state, y, saved);
}
void SelectiveScanForward(const SelectiveScan<double>& s, double* state,
                          MatrixView<double> y, double* saved) {
  HWY_DYNAMIC_DISPATCH(ScanForwardDouble)(s, state, y, saved);
}

}  // namespace mneme::kernels
#endif  // HWY_ONCE
