// SPDX-License-Identifier: Apache-2.0
//
// One token of the selective scan for channels with fewer states than a vector
// has lanes: the states of all channels are one array, of which a vector holds
// those of several channels.

#if defined(MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_SMALL_STEP_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_SMALL_STEP_INL_H_
#undef MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_SMALL_STEP_INL_H_
#else
#define MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_SMALL_STEP_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/selective_scan-inl.h"
#include "attention/kernels/selective_scan.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme::kernels {
namespace HWY_NAMESPACE {
namespace scan {
namespace hn = hwy::HWY_NAMESPACE;

// Channels whose rates, inputs and sums a step has at a time: whole vectors.
constexpr size_t kChannelsAtOnce = 64;

// A group of as many channels as lanes has a vector of states per state of a
// channel, and all groups are alike.
template <typename T>
class SmallStep {
 public:
  static bool Supports(const SelectiveScan<T>& s) {
    return 0 < s.a.cols && s.a.cols < kLanes && s.a.stride == s.a.cols;
  }

  HWY_INLINE SmallStep(const SelectiveScan<T>& s, MatrixView<T> states)
      : a_(s.a), states_(states) {
    // Whole vectors, of which the next channel's cover what is too much.
    const D d;
    const FirstLanes<D> first{a_.cols};
    const V b = first.Load(s.b.row(0)), c = first.Load(s.c.row(0));
    for (size_t e = 0; e < kLanes; ++e) {
      const hn::Rebind<Index, D> of_index;
      hn::StoreU(hn::Set(of_index, static_cast<Index>(e)), of_index,
                 channel_ + e * a_.cols);
      hn::StoreU(b, d, b_ + e * a_.cols);
      hn::StoreU(c, d, c_ + e * a_.cols);
    }
  }

  // sums[i] = sum_n c[n] h[first + i, n] for i < count <= kChannelsAtOnce, of
  // rates dt log2(e) and inputs dt x. Arrays hold whole vectors, zero beyond.
  HWY_INLINE void Run(size_t first, size_t count, const T* rates,
                      const T* inputs, T* HWY_RESTRICT sums) {
    const D d;
    // All products first, since cores wait for what they read in other pieces
    // than they have just written it in.
    for (size_t e = 0; e < count; e += kLanes) {
      const V rate = hn::Load(d, rates + e), input = hn::Load(d, inputs + e);
      const size_t numbers = std::min(kLanes, count - e) * a_.cols;
      const T* const a = a_.row(first + e);
      T* const states = states_.row(first + e);
      T* const products = products_ + e * a_.cols;
      size_t i = 0;
      for (; i + kVectors * kLanes <= numbers; i += kVectors * kLanes) {
        Multiply<kVectors>(i, rate, input, AllLanes<D>(), a, states, products);
      }
      ForEachVector(d, numbers - i, [&](size_t k, const auto& access) HWY_ATTR {
        Multiply<1>(i + k, rate, input, access, a, states, products);
      });
    }
    if (a_.cols == 1) {
      hwy::CopyBytes<kChannelsAtOnce * sizeof(T)>(products_, sums);
      return;
    }
    const MatrixView<const T> products(products_, count, a_.cols);
    for (size_t e = 0; e < count; e += kLanes) {
      LoadChannels(d, products, e, count, columns_);
      V sum = hn::Load(d, columns_);
      for (size_t n = 1; n < a_.cols; ++n) {
        sum = hn::Add(sum, hn::Load(d, columns_ + n * kLanes));
      }
      hn::Store(sum, d, sums + e);
    }
  }

 private:
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  using Index = hwy::MakeSigned<T>;
  static constexpr size_t kLanes = hn::MaxLanes(D());
  // Whose exponentials are computed together.
  static constexpr size_t kVectors = 4;

  // Vectors from entry i of a group on.
  template <size_t kCount, class Access>
  HWY_INLINE void Multiply(size_t i, V rate, V input, const Access& access,
                           const T* HWY_RESTRICT a, T* HWY_RESTRICT states,
                           T* HWY_RESTRICT products) const {
    const D d;
    V decay[kCount];
    Unroll<kCount>([&](auto k) HWY_ATTR {
      const size_t at = i + k * kLanes;
      const auto channel = hn::SetTableIndices(d, channel_ + at);
      decay[k] =
          hn::Mul(hn::TableLookupLanes(rate, channel), access.Load(a + at));
    });
    FastExp2NonPositive<kCount>(d, decay);
    Unroll<kCount>([&](auto k) HWY_ATTR {
      const size_t at = i + k * kLanes;
      const auto channel = hn::SetTableIndices(d, channel_ + at);
      const V write =
          hn::Mul(hn::TableLookupLanes(input, channel), hn::Load(d, b_ + at));
      const V state = hn::MulAdd(decay[k], access.Load(states + at), write);
      access.Store(state, states + at);
      hn::Store(hn::Mul(hn::Load(d, c_ + at), state), d, products + at);
    });
  }

  const MatrixView<const T> a_;
  const MatrixView<T> states_;
  // Of the states of a group: which channel's they are, and weights.
  HWY_ALIGN Index channel_[kLanes * kLanes];
  HWY_ALIGN T b_[kLanes * kLanes];
  HWY_ALIGN T c_[kLanes * kLanes];
  HWY_ALIGN T products_[kChannelsAtOnce * kLanes];
  HWY_ALIGN T columns_[kLanes * kLanes];
};

}  // namespace scan
}  // namespace HWY_NAMESPACE
}  // namespace mneme::kernels
HWY_AFTER_NAMESPACE();

#endif  // MNEME_ATTENTION_KERNELS_SELECTIVE_SCAN_SMALL_STEP_INL_H_
