// SPDX-License-Identifier: Apache-2.0
//
// One token of log-linear attention (log_linear_attention.h), as decoding takes
// them. With f = e^g, S^l the matrices of the buckets before the token, and m
// the level at which those below it meet,
//
//   o = lambda^0 (q . k) v + sum_l lambda^l f q^T S^l,
//   S^l <- f S^l for l > m,   S^m <- f sum_{l <= m} S^l + k v^T,
//
// where there are all of the levels below m, and that of level m only if it is
// the last. So each matrix is read once, and written if it is there afterwards.

#ifndef MNEME_ATTENTION_KERNELS_LOG_LINEAR_STEP_H_
#define MNEME_ATTENTION_KERNELS_LOG_LINEAR_STEP_H_

#include <cstdint>

#include "attention/kernels/log_linear_attention.h"
#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// One token of each of many groups of heads, all at `position`: here row i of
// the inputs and of o [a.in.q.rows, heads * value_dim] is that of group i,
// whose matrices are the i-th [key_dim, heads * value_dim] of each level's;
// a.chunk does not matter. buckets are otherwise those that LogLinearForward
// takes on entry. On return that of level m is where that of level 1 was: the
// caller is to rotate entries 1 ... m to the left by one. Nothing has to be
// written to memory that was not read, and what is written next was read
// lately. Single-threaded; safe to call concurrently.
void LogLinearStep(const LogLinear<float>& a, int64_t position,
                   float* const* buckets, MatrixView<float> o);
void LogLinearStep(const LogLinear<double>& a, int64_t position,
                   double* const* buckets, MatrixView<double> o);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_LOG_LINEAR_STEP_H_
