// SPDX-License-Identifier: Apache-2.0
//
// Log-linear attention (arXiv 2506.04761) with scalar decays, for one sequence
// and the heads that share its queries and keys:
//
//   o_t = sum_{j <= t} lambda_t^{l(t, j)} e^{g_{j+1} + ... + g_t} (q_t . k_j)
//   v_j
//
// where l(t, j) is the level of the Fenwick tree (fenwick.h) at which token t
// sees token j. The tokens of a bucket share their weight, so a matrix for each
// bucket, sum_j e^{...} k_j v_j^T, is all that has to be remembered of them.
//
// It runs through chunks, which may begin at any position and have any length.
// With G_t the sum of log decays from the chunk's first token to t, and S^l the
// matrices of the buckets before it,
//
//   o_t = sum_l lambda_t^{l'} e^{G_t} q_t^T S^l                         (read)
//         + sum_{j <= t in chunk} lambda_t^{l(t, j)} e^{G_t - G_j}
//           (q_t . k_j) v_j,                                          (within)
//
// where l' is the level that a bucket has moved to when t comes. Then the
// buckets move on to those before the next chunk: some merge, the tokens of the
// chunk join or make their own, all fade (write). chunk >= length is the fully
// parallel form, chunk = 1 the recurrence.
//
// Decays are products of factors e^g <= 1, so nothing overflows, and a log
// decay of -infinity is an exact reset. Single-threaded; safe to call
// concurrently.

#ifndef MNEME_ATTENTION_KERNELS_LOG_LINEAR_ATTENTION_H_
#define MNEME_ATTENTION_KERNELS_LOG_LINEAR_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// What attention takes, with E = const T, or gradients by it, with E = T, of
// which those without data are not wanted.
template <typename E>
struct LogLinearArrays {
  MatrixView<E> q, k;    // [length, key_dim]
  MatrixView<E> v;       // [length, heads * value_dim]
  MatrixView<E> g;       // [length, heads], log decays <= 0
  MatrixView<E> lambda;  // [length, heads * levels], levels >= 1
};

template <typename T>
struct LogLinear {
  LogLinearArrays<const T> in;
  size_t heads = 1;
  size_t chunk = 64;  // >= 1
};

// The matrices of the buckets before each chunk, for the backward of a sequence
// that starts at position 0.
size_t LogLinearSavedSize(size_t length, size_t chunk, size_t levels,
                          size_t matrix_size);

// The first row stands at `position`. buckets has an entry for each level up to
// Fenwick(levels).top(); where a position up to position + length has a bucket
// of that level, it is a matrix [key_dim, heads * value_dim], which holds the
// bucket before `position`, if there is one, on entry, and that before position
// + length on return. Null buckets: starts from nothing at position 0, and the
// end is not wanted. o [length, heads * value_dim] is overwritten; saved
// (LogLinearSavedSize entries) may be null when no backward follows.
void LogLinearForward(const LogLinear<float>& a, int64_t position,
                      float* const* buckets, MatrixView<float> o, float* saved);
void LogLinearForward(const LogLinear<double>& a, int64_t position,
                      double* const* buckets, MatrixView<double> o,
                      double* saved);

// Adds to gradients, given that by o. The sequence starts at position 0, and
// nothing depends on its last buckets.
void LogLinearBackward(const LogLinear<float>& a, const float* saved,
                       MatrixView<const float> d_o,
                       const LogLinearArrays<float>& gradients);
void LogLinearBackward(const LogLinear<double>& a, const double* saved,
                       MatrixView<const double> d_o,
                       const LogLinearArrays<double>& gradients);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_LOG_LINEAR_ATTENTION_H_
