// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/simd_loops.h"

#include <atomic>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "harness/throughput/simd_loops.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, because they are included once for each target.
#include "attention/kernels/exp-inl.h"
#include "attention/kernels/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mneme {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace kn = kernels::HWY_NAMESPACE;

// Chains of multiply-adds and vectors per batch of exponentials, as many as
// stay in registers. Measured on Zen 5, which starts two multiply-adds of four
// cycles in each cycle: 8 chains reach 92% of 10, and more than 10 gain nothing
// as long as none is spilled; 24 leave room for a CPU with longer latencies.
// For exponentials 3 and 6 were best among 1 ... 8.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
constexpr size_t kChains = 24;
constexpr size_t kExpVectors = 6;
#else
constexpr size_t kChains = 12;
constexpr size_t kExpVectors = 3;
#endif

// Makes the compiler believe that v is used and might have changed. Costs no
// instruction where the vector is one register.
template <class V>
HWY_INLINE void Hide(V& v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  asm volatile("" : "+v"(v.raw));
#elif HWY_TARGET == HWY_NEON
  asm volatile("" : "+w"(v.raw));
#else
  asm volatile("" : "+m"(v));
#endif
}

HWY_FLATTEN double MultiplyAdds(int64_t rounds) {
  const hn::ScalableTag<float> d;
  using V = hn::VFromD<decltype(d)>;
  V sums[kChains];
  // All different, or the compiler would compute one of them. They tend to
  // term / (1 - factor), far from denormals and infinities.
  kn::Unroll<kChains>([&](auto i) HWY_ATTR {
    sums[i] = hn::Iota(d, static_cast<float>(i + 1));
  });
  V factor = hn::Set(d, 0.7f), term = hn::Set(d, 0.9f);
  Hide(factor);
  Hide(term);
  for (int64_t round = 0; round < rounds; ++round) {
    kn::Unroll<kChains>(
        [&](auto i) HWY_ATTR { sums[i] = hn::MulAdd(sums[i], factor, term); });
  }
  kn::Unroll<kChains>([&](auto i) HWY_ATTR { Hide(sums[i]); });
  return 2.0 * static_cast<double>(kChains * hn::Lanes(d)) *
         static_cast<double>(rounds);
}

HWY_FLATTEN double Exps(int64_t rounds) {
  const hn::ScalableTag<float> d;
  using V = hn::VFromD<decltype(d)>;
  V z = hn::Set(d, -0.7f);
  for (int64_t round = 0; round < rounds; ++round) {
    V powers[kExpVectors];
    kn::Unroll<kExpVectors>([&](auto i) HWY_ATTR {
      Hide(z);
      powers[i] = z;
    });
    kn::FastExp2NonPositive<kExpVectors>(d, powers);
    kn::Unroll<kExpVectors>([&](auto i) HWY_ATTR { Hide(powers[i]); });
  }
  return static_cast<double>(kExpVectors * hn::Lanes(d)) *
         static_cast<double>(rounds);
}

// Two streams, one through each half: a single one leaves the prefetchers of
// Zen 5 waiting, and reads L3 at 80% of the rate (DRAM 97%); four gain nothing.
HWY_FLATTEN double Read(const void* data, size_t bytes, int64_t rounds) {
  const hn::ScalableTag<uint32_t> d;
  constexpr size_t kVectors = 4;  // of each stream in one step
  const size_t lanes = hn::Lanes(d);
  const size_t half = bytes / 2 / sizeof(uint32_t);
  const auto load = [&](const uint32_t* from) HWY_ATTR {
    kn::Unroll<kVectors>([&](auto i) HWY_ATTR {
      auto v = hn::Load(d, from + i * lanes);
      Hide(v);
    });
  };
  for (int64_t round = 0; round < rounds; ++round) {
    const uint32_t* first = static_cast<const uint32_t*>(data);
    const uint32_t* second = first + half;
    for (size_t i = 0; i < half; i += kVectors * lanes) {
      load(first + i);
      load(second + i);
    }
  }
  return static_cast<double>(bytes) * static_cast<double>(rounds);
}

// One stream: two gain nothing where lines are written.
HWY_FLATTEN double ReadWrite(void* data, size_t bytes, int64_t rounds) {
  const hn::ScalableTag<uint32_t> d;
  constexpr size_t kVectors = 4;
  const size_t lanes = hn::Lanes(d);
  const size_t size = bytes / sizeof(uint32_t);
  const auto one = hn::Set(d, 1);
  uint32_t* const numbers = static_cast<uint32_t*>(data);
  for (int64_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < size; i += kVectors * lanes) {
      kn::Unroll<kVectors>([&](auto j) HWY_ATTR {
        uint32_t* const at = numbers + i + j * lanes;
        hn::Store(hn::Add(hn::Load(d, at), one), d, at);
      });
    }
    // Or the compiler would do all rounds at once.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  return 2.0 * static_cast<double>(bytes) * static_cast<double>(rounds);
}

}  // namespace HWY_NAMESPACE
}  // namespace mneme
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mneme {

HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(Exps);
HWY_EXPORT(Read);
HWY_EXPORT(ReadWrite);

double RunMultiplyAdds(int64_t rounds) {
  return HWY_DYNAMIC_DISPATCH(MultiplyAdds)(rounds);
}

double RunExps(int64_t rounds) { return HWY_DYNAMIC_DISPATCH(Exps)(rounds); }

double ReadBytes(const void* data, size_t bytes, int64_t rounds) {
  return HWY_DYNAMIC_DISPATCH(Read)(data, bytes, rounds);
}

double ReadWriteBytes(void* data, size_t bytes, int64_t rounds) {
  return HWY_DYNAMIC_DISPATCH(ReadWrite)(data, bytes, rounds);
}

}  // namespace mneme
#endif  // HWY_ONCE
