// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/delta_heads.h"

#include <algorithm>
#include <vector>

#include "attention/kernels/gated_delta.h"
#include "attention/parts/one_token.h"

namespace mneme {
namespace {

using kernels::MatrixView;

// One (batch, head) of a [batch, length, heads] or [batch, length, heads, dim]
// array; null data if it is empty.
template <typename T>
MatrixView<T> OneHead(const Tensor& t, int64_t b, int64_t h) {
  if (t.empty()) return {};
  if (t.shape().rank() == 4) return t.Sequence<T>(b, h);
  const size_t length = t.dim(1), heads = t.dim(2);
  return {t.data<T>() + b * length * heads + h, length, 1, heads};
}

template <typename T>
kernels::GatedDelta<T> Arguments(const DeltaHeads& a, int64_t b, int64_t h) {
  kernels::GatedDelta<T> head;
  head.q = OneHead<T>(a.query, b, h);
  head.k = OneHead<T>(a.key, b, h);
  head.v = OneHead<T>(a.value, b, h);
  head.beta = OneHead<T>(a.beta, b, h);
  head.log_decay = OneHead<T>(a.log_decay, b, h);
  head.scale = static_cast<T>(a.scale);
  head.chunk = static_cast<size_t>(a.chunk);
  return head;
}

// Calls run(b, h, i) with i = b * heads + h for every head of the batch.
template <typename Run>
void ForEachHead(const DeltaHeads& a, const Run& run) {
  const int64_t heads = a.value.dim(2);
  kernels::ParallelFor(a.pool, a.value.dim(0) * heads,
                       [&](size_t i, int) { run(i / heads, i % heads, i); });
}

// One token of all heads.
template <typename T>
void Step(const DeltaHeads& a, T* states, const Tensor& output) {
  kernels::GatedDelta<T> all;
  all.q = RowsOfHeads<T>(a.query);
  all.k = RowsOfHeads<T>(a.key);
  all.v = RowsOfHeads<T>(a.value);
  all.beta = RowsOfHeads<T>(a.beta);
  all.log_decay = RowsOfHeads<T>(a.log_decay);
  all.scale = static_cast<T>(a.scale);
  const MatrixView<T> o = RowsOfHeads<T>(output);
  ForHeadRanges(a.pool, all.q.rows, [&](size_t first, size_t count) {
    kernels::GatedDelta<T> some = all;
    for (auto* rows :
         {&some.q, &some.k, &some.v, &some.beta, &some.log_decay}) {
      *rows = rows->Rows(first, count);
    }
    kernels::GatedDeltaStep(some, states + first * all.q.cols * all.v.cols,
                            o.Rows(first, count));
  });
}

}  // namespace

void DeltaHeadsForward(const DeltaHeads& a, State* state, const Tensor& output,
                       Arena* arena, Tensor* saved) {
  const int64_t key_dim = a.key.dim(3), value_dim = a.value.dim(3);
  const int64_t size = key_dim * value_dim;
  const DType dtype = a.query.dtype();
  if (saved != nullptr) {
    const int64_t saved_size = kernels::GatedDeltaSavedSize(
        a.query.dim(1), a.chunk, key_dim, value_dim);
    *saved = Tensor(arena, dtype, {a.key.dim(0) * a.key.dim(2), saved_size});
  }
  DispatchDType(dtype, [&](auto zero) {
    using T = decltype(zero);
    T* const states =
        state == nullptr
            ? nullptr
            : static_cast<DenseState*>(state)->tensor().template data<T>();
    if (states != nullptr && saved == nullptr && a.query.dim(1) == 1) {
      return Step(a, states, output);
    }
    ForEachHead(a, [&](int64_t b, int64_t h, int64_t i) {
      std::vector<T> scratch;
      T* head_state;
      if (states != nullptr) {
        head_state = states + i * size;
      } else {
        scratch.resize(size);
        head_state = scratch.data();
      }
      kernels::GatedDeltaForward(
          Arguments<T>(a, b, h), head_state, output.Sequence<T>(b, h),
          saved == nullptr ? nullptr : saved->data<T>() + i * saved->dim(1));
    });
  });
}

void DeltaHeadsBackward(const DeltaHeads& a, const Tensor& saved,
                        const Tensor& d_output,
                        const DeltaHeadsGradients& gradients) {
  DispatchDType(a.query.dtype(), [&](auto zero) {
    using T = decltype(zero);
    ForEachHead(a, [&](int64_t b, int64_t h, int64_t i) {
      kernels::GatedDeltaGradients<T> head;
      head.d_q = OneHead<T>(gradients.query, b, h);
      head.d_k = OneHead<T>(gradients.key, b, h);
      head.d_v = OneHead<T>(gradients.value, b, h);
      head.d_beta = OneHead<T>(gradients.beta, b, h);
      head.d_log_decay = OneHead<T>(gradients.log_decay, b, h);
      // Nothing reads the final state.
      std::vector<T> d_state(a.key.dim(3) * a.value.dim(3));
      kernels::GatedDeltaBackward(
          Arguments<T>(a, b, h), saved.data<T>() + i * saved.dim(1),
          d_output.Sequence<T>(b, h), d_state.data(), head);
    });
  });
}

int64_t DeltaBlock(const Dims& dims, int64_t chunk) {
  return std::min(
      {chunk, dims.length, static_cast<int64_t>(kernels::kGatedDeltaBlock)});
}

Cost DeltaHeadsCost(const Dims& dims, int64_t chunk, int64_t gates) {
  const double tokens =
      static_cast<double>(dims.batch) * dims.heads * dims.length;
  const double k = dims.key_dim, v = dims.value_dim;
  const double block = DeltaBlock(dims, chunk);
  Cost cost;
  // Two reads of the state and a write to it; scores of keys with keys and
  // queries, and the substitution, over the causal half of a block; and the
  // error and its strength.
  cost.flops = tokens * (6 * k * v + 2 * block * (k + v) + 2 * v);
  // Decay of the state once a block, and of keys and queries.
  if (gates > 0) cost.flops += tokens * (k * v / block + 5 * k);
  cost.exps = tokens * gates;
  cost.bytes = sizeof(float) * tokens * (2 * k + 2 * v + 1 + gates) +
               sizeof(float) * 2 * dims.batch * dims.heads * k * v;
  return cost;
}

}  // namespace mneme
