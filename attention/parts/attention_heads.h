// SPDX-License-Identifier: Apache-2.0
//
// What mechanisms made of softmax attention share: loops over heads that read
// grouped keys, and the oracle that all of them are variations of.

#ifndef MNEME_ATTENTION_PARTS_ATTENTION_HEADS_H_
#define MNEME_ATTENTION_PARTS_ATTENTION_HEADS_H_

#include <cmath>
#include <cstdint>
#include <functional>

#include "attention/kernels/parallel.h"
#include "attention/kernels/softmax_attention.h"
#include "attention/operator.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// What scores are multiplied by: key_dim^-1/2.
template <typename T>
T ScoreScale(const Dims& dims) {
  return static_cast<T>(1 / std::sqrt(static_cast<double>(dims.key_dim)));
}

// Every key up to the query itself, for queries that stand at query_offset,
// query_offset + 1, ...
inline kernels::AttentionMask CausalFrom(int64_t query_offset) {
  kernels::AttentionMask mask;
  mask.query_offset = query_offset;
  return mask;
}

// Every key there is.
inline kernels::AttentionMask Everything() {
  kernels::AttentionMask mask;
  mask.causal = false;
  return mask;
}

// Query tokens a block for a form: the whole length, `chunked`, or one.
int64_t QueryBlock(Form form, int64_t length, int64_t chunked);

// run(b, h, g) for every query head h and the key/value head g it reads.
template <typename Run>
void ForEachHead(kernels::ThreadPool* pool, const Dims& d, const Run& run) {
  kernels::ParallelFor(pool, d.batch * d.heads, [&](size_t i, int) {
    const int64_t h = i % d.heads;
    run(i / d.heads, h, h * d.kv_heads / d.heads);
  });
}

// The same, but heads that read the same g run one after the other, so that run
// may add to the gradients of its keys and values.
template <typename Run>
void ForEachHeadByGroup(kernels::ThreadPool* pool, const Dims& d,
                        const Run& run) {
  const int64_t group = d.heads / d.kv_heads;
  kernels::ParallelFor(pool, d.batch * d.kv_heads, [&](size_t i, int) {
    const int64_t b = i / d.kv_heads, g = i % d.kv_heads;
    for (int64_t h = g * group; h < (g + 1) * group; ++h) run(b, h, g);
  });
}

// The part of a [batch, heads, length] array that belongs to one head; null if
// the array is empty.
template <typename T>
T* HeadRow(const Tensor& rows, int64_t b, int64_t h) {
  return rows.empty() ? nullptr
                      : rows.data<T>() + (b * rows.dim(1) + h) * rows.dim(2);
}

// gradient, or zeros shaped like input when nobody wants it: kernels that
// compute several gradients at once have to put each somewhere.
Tensor GradientOrScratch(const Tensor& gradient, const Tensor& input);

// Adds to (b, h, i, j)'s score q_i . k_j key_dim^-1/2; -infinity hides key j
// from query i.
using ScoreBias =
    std::function<double(int64_t b, int64_t h, int64_t i, int64_t j)>;

// One query's read: o[c] = sum_s softmax_s(score(s)) value(s, c) over the
// s < count whose score is not -infinity, of which there is one at least.
void SoftmaxReadOracle(int64_t count,
                       const std::function<double(int64_t s)>& score,
                       const std::function<double(int64_t s, int64_t c)>& value,
                       int64_t value_dim, double* o);

// call->output = softmax attention over all pairs of tokens, in float64, from
// inputs q, k and v at the front.
void SoftmaxOracle(const OperatorCall& call, const ScoreBias& bias);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_ATTENTION_HEADS_H_
