// SPDX-License-Identifier: Apache-2.0
//
// The gated delta rule (kernels/gated_delta.h) over all heads of a batch.

#ifndef MNEME_ATTENTION_PARTS_DELTA_HEADS_H_
#define MNEME_ATTENTION_PARTS_DELTA_HEADS_H_

#include <cstdint>

#include "attention/kernels/parallel.h"
#include "attention/operator.h"
#include "attention/state.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// [batch, length, heads, *] arrays; every head has its own key and value.
struct DeltaHeads {
  Tensor query, key, value;
  Tensor beta;       // [batch, length, heads]
  Tensor log_decay;  // the same, or [batch, length, heads, key_dim]; or empty
  double scale = 1;
  int64_t chunk = 64;  // tokens between saved states
  kernels::ThreadPool* pool = nullptr;
};

// Writes output [batch, length, heads, value_dim]. state [batch, heads,
// key_dim * value_dim] is advanced; null starts from zero. saved, if not null,
// receives what the backward needs, in memory from arena.
void DeltaHeadsForward(const DeltaHeads& a, State* state, const Tensor& output,
                       Arena* arena, Tensor* saved);

// Adds to the gradients; empty ones are unwanted.
struct DeltaHeadsGradients {
  Tensor query, key, value, beta, log_decay;
};
void DeltaHeadsBackward(const DeltaHeads& a, const Tensor& saved,
                        const Tensor& d_output,
                        const DeltaHeadsGradients& gradients);

// Tokens a block of the kernel, at most.
int64_t DeltaBlock(const Dims& dims, int64_t chunk);

// FLOPs, exponentials and bytes of a forward. gates is the number of log decays
// a token and head: 0, 1, or key_dim.
Cost DeltaHeadsCost(const Dims& dims, int64_t chunk, int64_t gates);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_DELTA_HEADS_H_
