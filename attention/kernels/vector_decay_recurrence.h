// SPDX-License-Identifier: Apache-2.0
//
// The additive recurrence whose decay is a vector, one factor for each key
// dimension, for one sequence and one head:
//
//   S_t = diag(e^{g_t}) S_{t-1} + k_t v_t^T,    o_t = s S_t^T q_t,
//
// with state S in R^{key_dim x value_dim}, log decays g_t <= 0 in R^{key_dim}
// (-inf forgets) and scale s: gated linear attention (arXiv 2312.06635). With a
// bonus u in R^{key_dim} the read comes before decay and write, as in RWKV-6
// (2404.05892):
//
//   o_t = s (S_{t-1} + diag(u) k_t v_t^T)^T q_t.
//
// Tokens are taken 16 at a time. Within such a block a score sums q_id k_jd
// e^{g_{j+1,d} + ... + g_{i,d}} over d. Split in two at a token between j and
// i, the exponential makes that a matrix product, and neither part is above 1;
// split anywhere else it may overflow. So the tokens of a block form runs of
// four: pairs within a run decay token by token, and all that crosses a run's
// border, or the block's, is a matrix product.
//
// `chunk` is how many tokens share a saved state: the backward recomputes those
// in between. Single-threaded; safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_VECTOR_DECAY_RECURRENCE_H_
#define MNEME_ATTENTION_KERNELS_VECTOR_DECAY_RECURRENCE_H_

#include <cstddef>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Inputs common to forward and backward.
template <typename T>
struct VectorDecayRecurrence {
  MatrixView<const T> q;          // [length, key_dim]
  MatrixView<const T> k;          // [length, key_dim]
  MatrixView<const T> v;          // [length, value_dim]
  MatrixView<const T> log_decay;  // [length, key_dim], each <= 0
  const T* bonus = nullptr;       // [key_dim]; null: read after the write
  T scale = 1;
  size_t chunk = 64;  // >= 1
};

// Chunk-boundary states kept for the backward: one before each chunk.
constexpr size_t VectorDecaySavedSize(size_t length, size_t chunk,
                                      size_t key_dim, size_t value_dim) {
  return (length + chunk - 1) / chunk * key_dim * value_dim;
}

// state [key_dim x value_dim], row-major, holds S_0 on entry and S_length on
// return. o is overwritten; saved (VectorDecaySavedSize entries) may be null
// when no backward follows.
void VectorDecayForward(const VectorDecayRecurrence<float>& a, float* state,
                        MatrixView<float> o, float* saved);
void VectorDecayForward(const VectorDecayRecurrence<double>& a, double* state,
                        MatrixView<double> o, double* saved);

// One token of each of many heads: here row i of the inputs and of o is that of
// head i, whose state is the i-th of states [a.v.rows, key_dim, value_dim] and
// whose bonus the i-th of [a.v.rows, key_dim]; a.chunk does not matter. Each
// head gets what VectorDecayForward of its one token gives, but sooner than in
// a call for each.
void VectorDecayStep(const VectorDecayRecurrence<float>& a, float* states,
                     MatrixView<float> o);
void VectorDecayStep(const VectorDecayRecurrence<double>& a, double* states,
                     MatrixView<double> o);

// Gradients, added to what the outputs hold. Null data is a gradient nobody
// wants.
template <typename T>
struct VectorDecayGradients {
  MatrixView<T> d_q, d_k, d_v, d_log_decay;
  T* d_bonus = nullptr;  // [key_dim]
};

// d_state holds the gradient by the final state on entry and by the initial
// state on return. Needs memory for one state per 16 tokens of a chunk.
void VectorDecayBackward(const VectorDecayRecurrence<float>& a,
                         const float* saved, MatrixView<const float> d_o,
                         float* d_state,
                         const VectorDecayGradients<float>& gradients);
void VectorDecayBackward(const VectorDecayRecurrence<double>& a,
                         const double* saved, MatrixView<const double> d_o,
                         double* d_state,
                         const VectorDecayGradients<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_VECTOR_DECAY_RECURRENCE_H_
