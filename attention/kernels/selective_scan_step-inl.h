// SPDX-License-Identifier: Apache-2.0
//
// One token of the selective scan, as decoding takes them. States and
// transitions pass through the core once, so that transposing them would cost
// as much as the rest: here the states of a channel are lanes, and its output
// is a sum over lanes.

#if defined(MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_STEP_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_STEP_INL_H_
#undef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_STEP_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_STEP_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lane_sums-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/selective_scan.h"
#include "attention/kernels/selective_scan_small_step-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace scan {
namespace hn = hwy::HWY_NAMESPACE;

// Channels that take a step together: enough chains of exponentials, and a
// whole number of blocks for StoreSumsOfLanes. More of them would not leave
// registers for b, c and what the exponentials need (Zen 5: 8 take 1.4 times as
// long).
constexpr size_t kStepChannels = 4;

// A vector of states, from n on, of kChannels channels from e on. rates holds
// dt log2(e), inputs dt x.
template <size_t kChannels, class D, typename T>
HWY_INLINE void StepStates(D d, const SelectiveScan<T>& s, size_t e, size_t n,
                           const T* rates, const T* inputs,
                           MatrixView<T> states,
                           hn::Vec<D> (&sum)[kStepChannels]) {
  using V = hn::Vec<D>;
  V decay[kChannels];
  Unroll<kChannels>([&](auto i) HWY_ATTR {
    decay[i] = hn::Mul(hn::Set(d, rates[i]), hn::LoadU(d, s.a.row(e + i) + n));
  });
  FastExp2NonPositive<kChannels>(d, decay);
  const V b = hn::LoadU(d, s.b.row(0) + n), c = hn::LoadU(d, s.c.row(0) + n);
  Unroll<kChannels>([&](auto i) HWY_ATTR {
    T* const at = states.row(e + i) + n;
    const V state = hn::MulAdd(decay[i], hn::LoadU(d, at),
                               hn::Mul(hn::Set(d, inputs[i]), b));
    hn::StoreU(state, d, at);
    sum[i] = hn::MulAdd(c, state, sum[i]);
  });
}

// The states from n on, fewer than lanes of D: vectors of a half, a quarter and
// so on. (After a masked store, cores make loads wait that only touch what the
// mask left out, as those of the next channel do.)
template <size_t kChannels, class D, typename T>
HWY_INLINE void StepRest(D d, const SelectiveScan<T>& s, size_t e, size_t n,
                         const T* rates, const T* inputs, MatrixView<T> states,
                         hn::Vec<D> (&sum)[kStepChannels]) {
#if HWY_TARGET == HWY_SCALAR
  (void)d, (void)s, (void)e, (void)n, (void)rates, (void)inputs, (void)states,
      (void)sum;
#else
  if constexpr (hn::MaxLanes(d) > 1) {
    if (n == s.a.cols) return;
    const hn::Half<D> half;
    hn::Vec<hn::Half<D> > rest[kStepChannels];
    Unroll<kStepChannels>([&](auto i) HWY_ATTR { rest[i] = hn::Zero(half); });
    if (n + hn::Lanes(half) <= s.a.cols) {
      StepStates<kChannels>(half, s, e, n, rates, inputs, states, rest);
      n += hn::Lanes(half);
    }
    StepRest<kChannels>(half, s, e, n, rates, inputs, states, rest);
    Unroll<kChannels>([&](auto i) HWY_ATTR {
      sum[i] = hn::Add(sum[i], hn::ZeroExtendVector(d, rest[i]));
    });
  }
#endif
}

// sums[i] = sum_n c[n] h[e + i, n] for kChannels channels; writes up to
// kStepChannels entries. Sums have the same order whatever kChannels is.
template <size_t kChannels, class D, typename T>
HWY_INLINE void StepChannels(D d, const SelectiveScan<T>& s, size_t e,
                             const T* rates, const T* inputs,
                             MatrixView<T> states, T* HWY_RESTRICT sums) {
  hn::Vec<D> sum[kStepChannels];
  Unroll<kStepChannels>([&](auto i) HWY_ATTR { sum[i] = hn::Zero(d); });
  size_t n = 0;
  for (; n + hn::Lanes(d) <= s.a.cols; n += hn::Lanes(d)) {
    StepStates<kChannels>(d, s, e, n, rates, inputs, states, sum);
  }
  StepRest<kChannels>(d, s, e, n, rates, inputs, states, sum);
  for (size_t i = 0; i < kStepChannels; i += kBlockLanes<T>) {
    StoreSumsOfLanes(sum + i, sums + i);
  }
}

// Token 0 for channels [begin, end), kChannelsAtOnce at a time: what
// sum(first, count, rates, inputs, sums) leaves in sums, and d x.
template <class D, typename T, class Sum>
HWY_INLINE void StepWith(D d, const SelectiveScan<T>& s, size_t begin,
                         size_t end, T* HWY_RESTRICT y, const Sum& sum) {
  HWY_ALIGN T rates[kChannelsAtOnce], inputs[kChannelsAtOnce];
  HWY_ALIGN T sums[kChannelsAtOnce + kStepChannels];
  for (; begin < end; begin += kChannelsAtOnce) {
    const size_t count = std::min(kChannelsAtOnce, end - begin);
    const T *x = s.x.row(0) + begin, *dt = s.dt.row(0) + begin;
    ForEachVector(d, count, [&](size_t i, const auto& access) HWY_ATTR {
      const auto step = access.Load(dt + i);
      const auto log2e = hn::Set(d, ExpConstants<T>::kLog2E);
      hn::Store(hn::Mul(step, log2e), d, rates + i);
      hn::Store(hn::Mul(step, access.Load(x + i)), d, inputs + i);
    });
    sum(begin, count, rates, inputs, sums);
    ForEachVector(d, count, [&](size_t i, const auto& access) HWY_ATTR {
      auto sum = hn::Load(d, sums + i);
      if (s.d != nullptr) {
        sum = hn::MulAdd(access.Load(s.d + begin + i), access.Load(x + i), sum);
      }
      access.Store(sum, y + begin + i);
    });
  }
}

// states [channels, state_dim], in place. Output rounding differs from that of
// longer scans, which begin with d x.
template <class D, typename T>
HWY_FLATTEN HWY_NOINLINE void Step(D d, const SelectiveScan<T>& s, size_t begin,
                                   size_t end, MatrixView<T> states,
                                   T* HWY_RESTRICT y) {
  if (SmallStep<T>::Supports(s)) {
    SmallStep<T> small(s, states);
    StepWith(d, s, begin, end, y,
             [&](size_t first, size_t count, const T* rates, const T* inputs,
                 T* sums)
                 HWY_ATTR { small.Run(first, count, rates, inputs, sums); });
    return;
  }
  StepWith(d, s, begin, end, y,
           [&](size_t first, size_t count, const T* rates, const T* inputs,
               T* sums) HWY_ATTR {
             size_t i = 0;
             for (; i + kStepChannels <= count; i += kStepChannels) {
               StepChannels<kStepChannels>(d, s, first + i, rates + i,
                                           inputs + i, states, sums + i);
             }
             for (; i < count; ++i) {
               StepChannels<1>(d, s, first + i, rates + i, inputs + i, states,
                               sums + i);
             }
           });
}

}  // namespace scan
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_STEP_INL_H_
