// SPDX-License-Identifier: Apache-2.0
//
// The generalised delta rule of RWKV-7 (arXiv 2503.14456), for one sequence and
// one head: a memory whose transition is a diagonal plus any matrix of rank
// one,
//
//   u_t = S_{t-1}^T a_t,
//   S_t = diag(e^{g_t}) S_{t-1} + b_t u_t^T + k_t v_t^T,    o_t = S_t^T q_t,
//
// with state S in R^{key_dim x value_dim} and log decays g_t <= 0 in
// R^{key_dim}. What a_t reads, before the decay, is written back along b_t: for
// a = -k and b = beta k this is the delta rule, which takes away what the
// memory answers to the key, but removal and writing need not use the same
// vector or strength.
//
// Tokens are taken in blocks of 16, in the WY form of gated_delta.h. With d_ij
// the decay from token j to i, d_i from the block's start to i, d_i^- to the
// token before, and d_j* from j to the block's end,
//
//   u_i   = S_in^T (a_i d_i^-) + sum_{j < i}  (a_i . b_j d_{i-1,j}) u_j
//                                           + (a_i . k_j d_{i-1,j}) v_j
//   o_i   = S_in^T (q_i d_i)   + sum_{j <= i} (q_i . b_j d_ij) u_j
//                                           + (q_i . k_j d_ij) v_j
//   S_out = diag(d) S_in + sum_j (b_j d_j*) u_j^T + (k_j d_j*) v_j^T
//
// where the first line is a forward substitution. All decays are products of
// factors e^g, so that nothing overflows and a hard reset (g = -inf) is exact.
//
// `chunk` says after how many tokens a state is saved for the backward, which
// recomputes what lies between; chunk = 1 is the recurrence, one fused step a
// token. The recurrence itself diverges where diag(e^g) + b a^T expands: keep
// |a| |b| small, or b = -beta a with |a| = 1 and 0 <= beta <= 2. Sums have a
// fixed order for given (length, dims, chunk, SIMD target). Single-threaded;
// safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_H_
#define MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_H_

#include <cstddef>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Tokens a block in WY form.
constexpr size_t kGeneralizedDeltaBlock = 16;

// Inputs common to forward and backward.
template <typename T>
struct GeneralizedDelta {
  MatrixView<const T> q;          // [length, key_dim]
  MatrixView<const T> k;          // [length, key_dim]
  MatrixView<const T> v;          // [length, value_dim]
  MatrixView<const T> log_decay;  // [length, key_dim], each <= 0
  MatrixView<const T> a;          // [length, key_dim]
  MatrixView<const T> b;          // [length, key_dim]
  size_t chunk = 64;              // >= 1
};

// Chunk-boundary states kept for the backward: one before each chunk.
constexpr size_t GeneralizedDeltaSavedSize(size_t length, size_t chunk,
                                           size_t key_dim, size_t value_dim) {
  return (length + chunk - 1) / chunk * key_dim * value_dim;
}

// state [key_dim, value_dim] holds S_0 on entry, S_length on return. o is
// overwritten; saved (GeneralizedDeltaSavedSize entries) may be null when no
// backward follows.
void GeneralizedDeltaForward(const GeneralizedDelta<float>& x, float* state,
                             MatrixView<float> o, float* saved);
void GeneralizedDeltaForward(const GeneralizedDelta<double>& x, double* state,
                             MatrixView<double> o, double* saved);

// One token of each of many heads: here row i of the inputs and of o is that of
// head i, whose state is the i-th of states [x.q.rows, key_dim, value_dim];
// x.chunk does not matter. Each head gets what GeneralizedDeltaForward of its
// one token gives, but sooner than in a call for each: while one state is
// written the next one is read.
void GeneralizedDeltaStep(const GeneralizedDelta<float>& x, float* states,
                          MatrixView<float> o);
void GeneralizedDeltaStep(const GeneralizedDelta<double>& x, double* states,
                          MatrixView<double> o);

// Gradients, added to what the outputs hold. Views with null data are gradients
// nobody wants.
template <typename T>
struct GeneralizedDeltaGradients {
  MatrixView<T> d_q, d_k, d_v, d_log_decay, d_a, d_b;
};

// d_state holds the gradient by the final state on entry and by the initial
// state on return.
void GeneralizedDeltaBackward(
    const GeneralizedDelta<float>& x, const float* saved,
    MatrixView<const float> d_o, float* d_state,
    const GeneralizedDeltaGradients<float>& gradients);
void GeneralizedDeltaBackward(
    const GeneralizedDelta<double>& x, const double* saved,
    MatrixView<const double> d_o, double* d_state,
    const GeneralizedDeltaGradients<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_GENERALIZED_DELTA_H_
