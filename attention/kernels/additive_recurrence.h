// SPDX-License-Identifier: Apache-2.0
//
// The additive recurrence with scalar decay, for one sequence and one head:
//
//   S_t = e^{g_t} S_{t-1} + b_t k_t v_t^T,  o_t = s S_t^T q_t + u v_t,
//   z_t = e^{g_t} z_{t-1} + b_t k_t,        den_t = s z_t . q_t  (optional),
//
// with state S in R^{key_dim x value_dim}, log decay g_t <= 0, and scale s;
// strength b_t is 1 and skip u is 0 but for SSD's step sizes and D. It is the
// whole of retention (arXiv 2307.08621), linear attention (2006.16236),
// SSD (2405.21060) and Taylor or random feature attention; the normaliser
// column z serves those that divide by den: the forward can do so while the
// numerator is in the cache, and can map queries and keys to features on their
// way in.
//
// The chunked form computes C tokens at a time with matrix products. With
// G_i = sum of g from the chunk's first token to i,
//
//   o_i   = s [ e^{G_i} S_in^T q_i
//               + sum_{j <= i} (q_i . b_j k_j) e^{G_i - G_j} v_j ] + u v_i
//   S_out = e^{G_C} S_in + sum_j e^{G_C - G_j} b_j k_j v_j^T
//
// so that strengths belong to the keys, and a skip to a token's score with
// itself, on their way through the cache; e^{G_i - G_j} is a product of factors
// e^g <= 1, so nothing overflows, and a decay of -infinity is an exact reset.
// chunk >= length is the fully parallel form; chunk = 1 is the recurrence.
// Reductions have a fixed shape for given (length, dims, chunk, SIMD target).
// Single-threaded; safe to call concurrently.

#ifndef MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_H_
#define MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_H_

#include <cstddef>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Inputs common to forward and backward.
template <typename T>
struct AdditiveRecurrence {
  MatrixView<const T> q;         // [length, key_dim]
  MatrixView<const T> k;         // [length, key_dim]
  MatrixView<const T> v;         // [length, value_dim]
  const T* log_decay = nullptr;  // [length], each <= 0; null: no decay
  const T* strength = nullptr;   // [length]; null: 1
  const T* skip = nullptr;       // one number; null: 0, as with a normaliser
  T scale = 1;
  size_t chunk = 64;        // >= 1
  bool normaliser = false;  // carry z and produce den

  // Of the forward alone; gradients are by the features and the numerator.
  bool elu_features = false;  // elu(q) + 1 and elu(k) + 1 for q and k
  bool divide = false;        // o / (den + eps) for o; den must not be null
  T eps = 0;
};

// Floats (doubles) in a state: S row-major, then z when there is a normaliser.
constexpr size_t AdditiveStateSize(size_t key_dim, size_t value_dim,
                                   bool normaliser) {
  return key_dim * value_dim + (normaliser ? key_dim : 0);
}

// Chunk-boundary states kept for the backward: one state before each chunk.
constexpr size_t AdditiveSavedSize(size_t length, size_t chunk,
                                   size_t state_size) {
  return (length + chunk - 1) / chunk * state_size;
}

// state (AdditiveStateSize entries) holds S_0 on entry, S_length on return. o
// is overwritten; den [length] may be null unless a.normaliser; saved
// (AdditiveSavedSize entries) may be null when no backward follows.
void AdditiveRecurrenceForward(const AdditiveRecurrence<float>& a, float* state,
                               MatrixView<float> o, float* den, float* saved);
void AdditiveRecurrenceForward(const AdditiveRecurrence<double>& a,
                               double* state, MatrixView<double> o, double* den,
                               double* saved);

// One token of each of many heads: here row i of the inputs and of o, and entry
// i of log_decay, strength and skip, are those of head i, whose state is the
// i-th of states [a.v.rows, AdditiveStateSize]; a.chunk does not matter. Each
// head gets what AdditiveRecurrenceForward of its one token gives, but sooner
// than in a call for each. A stride of 0 shares a query or key. den [a.v.rows]
// may be null.
void AdditiveRecurrenceStep(const AdditiveRecurrence<float>& a, float* states,
                            MatrixView<float> o, float* den);
void AdditiveRecurrenceStep(const AdditiveRecurrence<double>& a, double* states,
                            MatrixView<double> o, double* den);

// Gradients, added to what the outputs hold. Null pointers (and views with null
// data) are gradients nobody wants.
template <typename T>
struct AdditiveRecurrenceGradients {
  MatrixView<T> d_q, d_k, d_v;
  T* d_log_decay = nullptr;  // [length]
  T* d_strength = nullptr;   // [length]
  T* d_skip = nullptr;       // one number
};

// d_o is the gradient by the numerator, d_den (null unless normaliser) by the
// denominator. d_state holds the gradient by the final state on entry and by
// the initial state on return.
void AdditiveRecurrenceBackward(
    const AdditiveRecurrence<float>& a, const float* saved,
    MatrixView<const float> d_o, const float* d_den, float* d_state,
    const AdditiveRecurrenceGradients<float>& gradients);
void AdditiveRecurrenceBackward(
    const AdditiveRecurrence<double>& a, const double* saved,
    MatrixView<const double> d_o, const double* d_den, double* d_state,
    const AdditiveRecurrenceGradients<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_ADDITIVE_RECURRENCE_H_
