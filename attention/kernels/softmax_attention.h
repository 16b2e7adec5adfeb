// SPDX-License-Identifier: Apache-2.0
//
// Exact softmax attention for one sequence and one head, computed blockwise
// with an online softmax so that no length x length matrix is ever stored
// (FlashAttention, arXiv 2205.14135):
//
//   o_i = sum_{j visible from i} P_ij v_j,   P_ij = exp(s q_i . k_j - lse_i),
//   lse_i = log sum_{j visible from i} exp(s q_i . k_j).
//
// Query row i stands at absolute position query_offset + i, key row j at j.
// With causal, j is visible from i when j <= query_offset + i; with window
// W > 0 also j > query_offset + i - W, so exactly W keys are visible far from
// the start. A query that sees no key gets o_i = 0 and lse_i = -inf.
//
// Decode is the same function with few query rows: heads that share a
// key/value head (grouped queries) are passed as rows of one q with
// causal = false. Single-threaded; safe to call concurrently. The result of a
// row does not depend on which other rows are in the call's q: to the bit among
// calls with more than 8 rows, otherwise up to rounding, because few rows are
// summed in another order. A NaN or infinity reaches the rows of o that see it
// and no others; in the backward it may also reach gradients of rows near by.

#ifndef MNEME_ATTENTION_KERNELS_SOFTMAX_ATTENTION_H_
#define MNEME_ATTENTION_KERNELS_SOFTMAX_ATTENTION_H_

#include <cstddef>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

struct AttentionMask {
  bool causal = true;
  size_t window = 0;        // 0: unlimited
  size_t query_offset = 0;  // absolute position of query row 0
};

// q [queries, key_dim], k [keys, key_dim], v [keys, value_dim] ->
// o [queries, value_dim], lse [queries] (may be null when no backward follows).
void SoftmaxAttentionForward(MatrixView<const float> q,
                             MatrixView<const float> k,
                             MatrixView<const float> v, float scale,
                             const AttentionMask& mask, MatrixView<float> o,
                             float* lse);
void SoftmaxAttentionForward(MatrixView<const double> q,
                             MatrixView<const double> k,
                             MatrixView<const double> v, double scale,
                             const AttentionMask& mask, MatrixView<double> o,
                             double* lse);

// The same for the few queries of decoding, each of which sees all keys and has
// a bias [queries, keys] added to its scores s q_i . k_j. One of -inf hides a
// key, but not all keys, and not a value that is not finite.
void SoftmaxAttentionBiased(MatrixView<const float> q,
                            MatrixView<const float> k,
                            MatrixView<const float> v, float scale,
                            MatrixView<const float> bias, MatrixView<float> o);
void SoftmaxAttentionBiased(MatrixView<const double> q,
                            MatrixView<const double> k,
                            MatrixView<const double> v, double scale,
                            MatrixView<const double> bias,
                            MatrixView<double> o);

// o and lse are the forward's results, d_o the gradient of the loss by o.
// Adds to d_q, d_k and d_v (so heads that share keys accumulate by being called
// one after the other).
void SoftmaxAttentionBackward(MatrixView<const float> q,
                              MatrixView<const float> k,
                              MatrixView<const float> v,
                              MatrixView<const float> o, const float* lse,
                              MatrixView<const float> d_o, float scale,
                              const AttentionMask& mask, MatrixView<float> d_q,
                              MatrixView<float> d_k, MatrixView<float> d_v);
void SoftmaxAttentionBackward(MatrixView<const double> q,
                              MatrixView<const double> k,
                              MatrixView<const double> v,
                              MatrixView<const double> o, const double* lse,
                              MatrixView<const double> d_o, double scale,
                              const AttentionMask& mask, MatrixView<double> d_q,
                              MatrixView<double> d_k, MatrixView<double> d_v);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_ATTENTION_H_
