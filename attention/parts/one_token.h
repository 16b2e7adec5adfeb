// SPDX-License-Identifier: Apache-2.0
//
// For operators whose kernels take the one token of decoding for many heads at
// a time.

#ifndef MNEME_ATTENTION_PARTS_ONE_TOKEN_H_
#define MNEME_ATTENTION_PARTS_ONE_TOKEN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "attention/kernels/matrix.h"
#include "attention/kernels/parallel.h"
#include "attention/operator.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// Whether a call is a step of decoding.
inline bool TakesOneToken(int64_t length, const State* state, bool keep) {
  return length == 1 && state != nullptr && !keep;
}
inline bool TakesOneToken(const OperatorCall& call) {
  return TakesOneToken(call.dims.length, call.state, call.keep);
}

// A [batch, 1, heads] or [batch, 1, heads, dim] array as a matrix with a row
// for each of the batch * heads heads; null data if it is empty.
template <typename T>
kernels::MatrixView<T> RowsOfHeads(const Tensor& t) {
  if (t.empty()) return {};
  const size_t heads = t.dim(0) * t.dim(2);
  return {t.data<T>(), heads, t.elements() / heads};
}

// Calls run(first, count) for as many ranges of [0, heads) as there are
// threads.
template <typename Run>
void ForHeadRanges(kernels::ThreadPool* pool, size_t heads, const Run& run) {
  const size_t threads = pool == nullptr ? 1 : pool->threads();
  const size_t ranges = std::min(threads, heads);
  if (ranges == 1) return run(0, heads);
  kernels::ParallelFor(pool, ranges, [&](size_t i, int) {
    const size_t first = i * heads / ranges;
    run(first, (i + 1) * heads / ranges - first);
  });
}

// The same for ranges of heads of one sequence: run(b, h, count) for heads
// [h, h + count) of sequence b.
template <typename Run>
void ForHeadRanges(kernels::ThreadPool* pool, int64_t batch, int64_t heads,
                   const Run& run) {
  ForHeadRanges(pool, batch * heads, [&](size_t first, size_t count) {
    for (int64_t i = first, last = first + count; i < last;) {
      const int64_t h = i % heads, some = std::min(heads - h, last - i);
      run(i / heads, h, some);
      i += some;
    }
  });
}

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_ONE_TOKEN_H_
