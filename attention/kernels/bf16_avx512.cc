// SPDX-License-Identifier: Apache-2.0
//
// Bf16Unit on AVX-512's dot products of pairs, which Highway 1.0.3 does not
// have. Only the functions marked so are compiled for that instruction set, and
// only Bf16Avx512Unit() hands them out.

#include "attention/kernels/avx512_bf16.h"
#include "attention/kernels/bf16_product.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#define MNEME_AVX512_BF16 __attribute__((target("avx512f,avx512bf16")))

namespace mneme::kernels {
namespace {

void Nothing() {}

// kRows rows of C. With two vectors a row, kRows = 12 makes 24 sums, enough
// chains for a latency of 6 cycles on two ports, and 14 loads for 24
// instructions that multiply.
template <size_t kRows>
MNEME_AVX512_BF16 inline __attribute__((always_inline)) void MultiplyRows(
    const Bf16Multiplication& m, size_t row) {
  __m512 sum[kRows][2];
  float* const c = m.c + row * m.c_stride;
#pragma GCC unroll 12
  for (size_t r = 0; r < kRows; ++r) {
    sum[r][0] =
        m.add ? _mm512_loadu_ps(c + r * m.c_stride) : _mm512_setzero_ps();
    sum[r][1] =
        m.add ? _mm512_loadu_ps(c + r * m.c_stride + 16) : _mm512_setzero_ps();
  }
  const Bf16* a = m.a.data + row * m.a.row_stride;
  const uint32_t* b = m.b.data;
  for (size_t k = 0; k < m.depth; k += kBf16Step) {
    for (size_t p = 0; p < kBf16Step; p += 2, b += m.b.stride) {
      const auto b0 = (__m512bh)_mm512_loadu_si512(b);
      const auto b1 = (__m512bh)_mm512_loadu_si512(b + 16);
#pragma GCC unroll 12
      for (size_t r = 0; r < kRows; ++r) {
        int32_t pair;
        std::memcpy(&pair, a + r * m.a.row_stride + p, sizeof(pair));
        const auto a_r = (__m512bh)_mm512_set1_epi32(pair);
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], a_r, b0);
        sum[r][1] = _mm512_dpbf16_ps(sum[r][1], a_r, b1);
      }
    }
    a += m.a.step_stride;
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(c + r * m.c_stride, sum[r][0]);
    _mm512_storeu_ps(c + r * m.c_stride + 16, sum[r][1]);
  }
}

MNEME_AVX512_BF16 void Multiply(const Bf16Multiplication& m) {
  size_t row = 0;
  for (; row + 12 <= m.rows; row += 12) MultiplyRows<12>(m, row);
  if (m.rows - row == 8) MultiplyRows<8>(m, row);
  if (m.rows - row == 4) MultiplyRows<4>(m, row);
}

}  // namespace

const Bf16Unit* Bf16Avx512Unit() {
  static constexpr Bf16Unit kUnit = {"avx512bf16", Nothing, Nothing, Multiply};
  static const bool has = HasAvx512Bf16();
  return has ? &kUnit : nullptr;
}

}  // namespace mneme::kernels

#else

namespace mneme::kernels {

const Bf16Unit* Bf16Avx512Unit() { return nullptr; }

}  // namespace mneme::kernels

#endif
