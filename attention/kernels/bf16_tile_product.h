// SPDX-License-Identifier: Apache-2.0
//
// Bf16Multiplication on a file of eight tile registers of 16 rows x 64 bytes.
// Two by two of them are sums, so that every tile of A and B that is loaded is
// used twice. Registers says what a register is: hardware, or memory in which
// the same code is tested on machines without it.

#ifndef MNEME_ATTENTION_KERNELS_BF16_TILE_PRODUCT_H_
#define MNEME_ATTENTION_KERNELS_BF16_TILE_PRODUCT_H_

#include <cstddef>

#include "attention/kernels/bf16_product.h"

namespace mneme::kernels {

// Rows [row, row + 16 kGroups) of C: registers 0 to 3 are sums, 4 and 5 tiles
// of A, 6 and 7 of B. Strides of registers are in bytes.
template <size_t kGroups, class Registers>
inline void MultiplyTiles(const Bf16Multiplication& m, size_t row,
                          Registers& r) {
  constexpr size_t kTile = 16;  // columns of a tile of B and C
  constexpr bool kTwo = kGroups == 2;
  const size_t a_stride = m.a.row_stride * sizeof(Bf16);
  const size_t b_stride = m.b.stride * sizeof(uint32_t);
  const size_t c_stride = m.c_stride * sizeof(float);
  float* const c = m.c + row * m.c_stride;
  float* const c_below = c + kTile * m.c_stride;
  if (m.add) {
    r.template Load<0>(c, c_stride);
    r.template Load<1>(c + kTile, c_stride);
    if constexpr (kTwo) {
      r.template Load<2>(c_below, c_stride);
      r.template Load<3>(c_below + kTile, c_stride);
    }
  } else {
    r.template Zero<0>();
    r.template Zero<1>();
    if constexpr (kTwo) {
      r.template Zero<2>();
      r.template Zero<3>();
    }
  }
  const Bf16* a = m.a.data + row * m.a.row_stride;
  const uint32_t* b = m.b.data;
  for (size_t k = 0; k < m.depth; k += kBf16Step) {
    r.template Load<6>(b, b_stride);
    r.template Load<7>(b + kTile, b_stride);
    r.template Load<4>(a, a_stride);
    r.template Dot<0, 4, 6>();
    r.template Dot<1, 4, 7>();
    if constexpr (kTwo) {
      r.template Load<5>(a + kTile * m.a.row_stride, a_stride);
      r.template Dot<2, 5, 6>();
      r.template Dot<3, 5, 7>();
    }
    a += m.a.step_stride;
    b += kBf16Step / 2 * m.b.stride;
  }
  r.template Store<0>(c, c_stride);
  r.template Store<1>(c + kTile, c_stride);
  if constexpr (kTwo) {
    r.template Store<2>(c_below, c_stride);
    r.template Store<3>(c_below + kTile, c_stride);
  }
}

template <class Registers>
inline void MultiplyByTiles(const Bf16Multiplication& m, Registers& r) {
  size_t row = 0;
  for (; row + 2 * kBf16Rows <= m.rows; row += 2 * kBf16Rows) {
    MultiplyTiles<2>(m, row, r);
  }
  if (row < m.rows) MultiplyTiles<1>(m, row, r);
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_BF16_TILE_PRODUCT_H_
