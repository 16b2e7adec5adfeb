// SPDX-License-Identifier: Apache-2.0
//
// Softmax attention (softmax_attention.h) over keys and values kept as
// bfloat16, without a backward: half the bytes to read when decoding, and, with
// more than kBf16FewQueries queries, products on the units of bf16_product.h,
// where there is one. On a unit queries, and weights before they meet values,
// are rounded to Bf16; scores, the online softmax and sums are float always.
//
// Against exact arithmetic on numbers that are Bf16 already, element c of o_i
// is off by at most 4.1e-3 sum_j P_ij |v_jc| on a unit (2^-8 for the weights,
// 1e-4 for their exponentials), and by rounding errors of float without one.
//
// Single-threaded; safe to call concurrently. The result of a row does not
// depend on which other rows are in the call's q, among calls with more than
// kBf16FewQueries of them. A NaN or infinity reaches the rows of o that see it
// and no others.

#ifndef MNEME_ATTENTION_KERNELS_BF16_ATTENTION_H_
#define MNEME_ATTENTION_KERNELS_BF16_ATTENTION_H_

#include <cstddef>

#include "attention/kernels/bf16.h"
#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_attention.h"

namespace mneme::kernels {

// Up to so many rows of a q share one pass over keys and values.
inline constexpr size_t kBf16FewQueries = 8;

// Queries of one head.
struct Bf16AttentionHead {
  MatrixView<const float> q;  // [queries, key_dim]
  MatrixView<float> o;        // [queries, value_dim]
};

// `count` heads with as many queries each that share k [keys, key_dim] and v
// [keys, value_dim]: what is read, or packed, serves all of them.
void Bf16AttentionForward(const Bf16AttentionHead* heads, size_t count,
                          MatrixView<const Bf16> k, MatrixView<const Bf16> v,
                          float scale, const AttentionMask& mask);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_BF16_ATTENTION_H_
