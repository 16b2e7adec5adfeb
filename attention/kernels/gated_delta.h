// SPDX-License-Identifier: Apache-2.0
//
// The gated delta rule, for one sequence and one head: a memory that, before it
// writes a value, takes away what it already answers to the key,
//
//   S'_t = diag(e^{g_t}) S_{t-1},        e_t = v_t - S'_t^T k_t,
//   S_t  = S'_t + k_t (b_t e_t)^T,       o_t = s S_t^T q_t,
//
// with state S in R^{key_dim x value_dim}, write strengths b_t, scale s, and
// log decays g_t <= 0: none (DeltaNet, arXiv 2406.06484), one per token (Gated
// DeltaNet, 2412.06464), or one per token and key dimension (KDA, 2510.26692).
//
// Tokens are taken in blocks of 16, in the WY form of those papers. With d_ij
// the decay from token j to i, d_i from the block's start to i and d_j* from j
// to its end, and u_t = b_t e_t,
//
//   u_i   = b_i [ v_i - S_in^T (k_i d_i) - sum_{j < i} (k_i . k_j d_ij) u_j ]
//   o_i   = s [ S_in^T (q_i d_i) + sum_{j <= i} (q_i . k_j d_ij) u_j ]
//   S_out = diag(d) S_in + sum_j (k_j d_j*) u_j^T
//
// where the first line is a forward substitution. Reads and writes of the state
// cost a token the same whatever the block is, and the sums over j grow with
// it, so on a CPU longer blocks only cost more. All decays are products of
// factors e^g, never quotients or differences of sums: nothing overflows, and a
// hard reset (g = -inf) is exact.
//
// `chunk` says after how many tokens a state is saved for the backward, which
// recomputes what lies between; chunk = 1 is the recurrence, one fused step a
// token. Keys longer than sqrt(2 / b) make the recurrence itself diverge:
// normalise them. Sums have a fixed order for given (length, dims, chunk, SIMD
// target). Single-threaded; safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_GATED_DELTA_H_
#define MNEME_ATTENTION_KERNELS_GATED_DELTA_H_

#include <cstddef>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Tokens a block in WY form.
constexpr size_t kGatedDeltaBlock = 16;

// Inputs common to forward and backward.
template <typename T>
struct GatedDelta {
  MatrixView<const T> q;     // [length, key_dim]
  MatrixView<const T> k;     // [length, key_dim]
  MatrixView<const T> v;     // [length, value_dim]
  MatrixView<const T> beta;  // [length, 1]
  // [length, 1] or [length, key_dim], each <= 0; null data: no decay.
  MatrixView<const T> log_decay;
  T scale = 1;
  size_t chunk = 64;  // >= 1
};

// Chunk-boundary states kept for the backward: one before each chunk.
constexpr size_t GatedDeltaSavedSize(size_t length, size_t chunk,
                                     size_t key_dim, size_t value_dim) {
  return (length + chunk - 1) / chunk * key_dim * value_dim;
}

// state [key_dim, value_dim] holds S_0 on entry, S_length on return. o is
// overwritten; saved (GatedDeltaSavedSize entries) may be null when no backward
// follows.
void GatedDeltaForward(const GatedDelta<float>& a, float* state,
                       MatrixView<float> o, float* saved);
void GatedDeltaForward(const GatedDelta<double>& a, double* state,
                       MatrixView<double> o, double* saved);

// One token of each of many heads: here row i of the inputs and of o is that of
// head i, whose state is the i-th of states [a.q.rows, key_dim, value_dim];
// a.chunk does not matter. Each head gets what GatedDeltaForward of its one
// token gives, but sooner than in a call for each: while one state is written
// the next one is read.
void GatedDeltaStep(const GatedDelta<float>& a, float* states,
                    MatrixView<float> o);
void GatedDeltaStep(const GatedDelta<double>& a, double* states,
                    MatrixView<double> o);

// Gradients, added to what the outputs hold. Views with null data are gradients
// nobody wants.
template <typename T>
struct GatedDeltaGradients {
  MatrixView<T> d_q, d_k, d_v, d_beta, d_log_decay;
};

// d_state holds the gradient by the final state on entry and by the initial
// state on return.
void GatedDeltaBackward(const GatedDelta<float>& a, const float* saved,
                        MatrixView<const float> d_o, float* d_state,
                        const GatedDeltaGradients<float>& gradients);
void GatedDeltaBackward(const GatedDelta<double>& a, const double* saved,
                        MatrixView<const double> d_o, double* d_state,
                        const GatedDeltaGradients<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_GATED_DELTA_H_
