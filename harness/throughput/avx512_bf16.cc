// SPDX-License-Identifier: Apache-2.0
//
// A translation unit of its own: its functions are compiled for a CPU that need
// not be the one that runs the rest.

#include "harness/throughput/matrix_units.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <utility>
#endif

namespace mneme {

#if defined(__x86_64__)

namespace {

// Chains of dot products, as of multiply-adds (simd_loops.cc).
constexpr size_t kChains = 24;
constexpr double kFlops = 2 * 2 * 16;

// Keeps the compiler from leaving out what made sum.
__attribute__((target("avx512f"), always_inline)) inline void Use(__m512 sum) {
  asm volatile("" : : "v"(sum));
}

template <size_t... i>
__attribute__((target("avx512f,avx512bf16"))) double Dots(
    int64_t rounds, std::index_sequence<i...>) {
  // All different, or the compiler would compute one of them.
  __m512 sums[] = {_mm512_set1_ps(static_cast<float>(i))...};
  // 0x3f00 is 0.5 in bfloat16.
  __m512i pairs = _mm512_set1_epi16(0x3f00);
  asm volatile("" : "+v"(pairs));
  for (int64_t round = 0; round < rounds; ++round) {
    ((sums[i] = _mm512_dpbf16_ps(sums[i], reinterpret_cast<__m512bh>(pairs),
                                 reinterpret_cast<__m512bh>(pairs))),
     ...);
  }
  (Use(sums[i]), ...);
  return kFlops * sizeof...(i) * static_cast<double>(rounds);
}

}  // namespace

double RunBf16Dots(int64_t rounds) {
  return Dots(rounds, std::make_index_sequence<kChains>());
}

#else

double RunBf16Dots(int64_t /*rounds*/) { return 0; }

#endif  // defined(__x86_64__)

}  // namespace mneme
