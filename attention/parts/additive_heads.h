// SPDX-License-Identifier: Apache-2.0
//
// The additive recurrence (kernels/additive_recurrence.h) over all heads of a
// batch: what linear attention, retention, state space duality and the feature
// map mechanisms have in common. A variant's operator is this plus its feature
// map and its choice of decay.

#ifndef MNEME_ATTENTION_PARTS_ADDITIVE_HEADS_H_
#define MNEME_ATTENTION_PARTS_ADDITIVE_HEADS_H_

#include <cstdint>

#include "attention/kernels/parallel.h"
#include "attention/operator.h"
#include "attention/state.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// [batch, length, heads, *] arrays; every head has its own value. Queries and
// keys of one head serve all of them, as in SSD.
struct AdditiveHeads {
  Tensor query, key, value;
  // [batch, heads, length] arrays, or [1, heads, length] for all sequences.
  Tensor log_decay;  // each <= 0; empty: no decay
  Tensor strength;   // empty: 1
  Tensor skip;       // [heads]; empty: 0
  double scale = 1;
  int64_t chunk = 64;  // tokens a block
  bool normaliser = false;
  // Of the forward alone: query and key stand for elu + 1 of them; output is
  // divided by denominator + eps.
  bool elu_features = false;
  bool divide = false;
  double eps = 0;
  bool bf16 = false;  // float32 forwards that save nothing, but for one token
  kernels::ThreadPool* pool = nullptr;
};

// Tokens a block for a form: the whole length, `chunked`, or one.
int64_t ChunkOf(Form form, int64_t length, int64_t chunked);

// A zero state for each (batch, head): key_dim x value_dim numbers, and key_dim
// more with a normaliser.
std::unique_ptr<DenseState> NewAdditiveState(const Dims& dims, int64_t key_dim,
                                             bool normaliser, DType dtype);

// Writes the numerators (quotients) to output [batch, length, heads, value_dim]
// and, with a normaliser, the denominators to denominator [batch, heads,
// length] (of one token that continues from a state: unless that is empty).
// state is advanced; null starts from zero. saved, if not null,
// receives what the backward needs, in memory from arena.
void AdditiveHeadsForward(const AdditiveHeads& a, State* state,
                          const Tensor& output, const Tensor& denominator,
                          Arena* arena, Tensor* saved);

// Numbers for the token of each (batch, head), in place of the tensors of that
// name, which are not used then; null: no decay, 1, and 0.
template <typename T>
struct TokenFactors {
  const T* log_decay = nullptr;
  const T* strength = nullptr;  // times what is written
  const T* skip = nullptr;      // [heads]: times the value, added to the output
};

// The same for length 1, with a state and nothing to be saved.
template <typename T>
void AdditiveHeadsStep(const AdditiveHeads& a, const TokenFactors<T>& factors,
                       State* state, const Tensor& output,
                       const Tensor& denominator = Tensor());

// By the tensors of that name; empty: unwanted. Decays and strengths that all
// sequences share, and skips, have gradients for each, skips [batch, heads].
struct AdditiveHeadsGradients {
  Tensor query = {}, key = {}, value = {};
  Tensor log_decay = {}, strength = {}, skip = {};
};

// Adds to the gradients, given those of the numerators and the denominators
// (empty without a normaliser).
void AdditiveHeadsBackward(const AdditiveHeads& a, const Tensor& saved,
                           const Tensor& d_output, const Tensor& d_denominator,
                           const AdditiveHeadsGradients& gradients);

// Pairs of a token and one not after it, both in one block, when `length`
// tokens are cut into blocks.
double CausalPairs(int64_t length, int64_t block);

// FLOPs, exponentials and bytes of a forward with states of key_dim x
// value_dim. decay: one for each token and head, whose bytes are the caller's
// to add.
Cost AdditiveHeadsCost(const Dims& dims, int64_t key_dim, int64_t chunk,
                       bool decay, bool normaliser);

// Of that, what scores take. The backward computes them once more; the states
// before each chunk are kept.
double CausalScoresFlops(const Dims& dims, int64_t key_dim, int64_t chunk);

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_ADDITIVE_HEADS_H_
