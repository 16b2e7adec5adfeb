// SPDX-License-Identifier: Apache-2.0
//
// Differentiable operations: the vocabulary that mixers and models are written
// in. "Rows" of a tensor are its innermost axis; all other axes are kept. A
// shape that does not fit fails the tape (see tape.h) with a message that names
// the operation and both shapes.

#ifndef MNEME_ATTENTION_TENSOR_OPS_H_
#define MNEME_ATTENTION_TENSOR_OPS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "attention/kernels/norm.h"
#include "attention/kernels/rotary.h"
#include "attention/kernels/vector_math.h"
#include "attention/tensor/tape.h"

namespace mneme {

// x [..., in] times weight [in, out], plus bias [out] if valid -> [..., out].
Variable Linear(Variable x, Variable weight, Variable bias = {});

// residual [..., out] + x [..., in] weight [in, out]: a block's output
// projection and its residual connection in one pass over memory.
Variable LinearResidual(Variable residual, Variable x, Variable weight);

// x [..., in] times the transpose of table [out, in] -> [..., out]: logits
// against an embedding table.
Variable LinearTransposed(Variable x, Variable table);

// Elementwise; equal shapes.
Variable Add(Variable a, Variable b);
Variable Multiply(Variable a, Variable b);
Variable Scale(Variable x, double factor);
Variable Map(kernels::Unary f, Variable x);
// Row i of x [..., n] times factors[i mod m], where m, the number of factors,
// divides the number of rows: one factor for each batch, token and head of
// [batch, length, heads, n], say, or for each head.
Variable ScaleRows(Variable x, Variable factors);
// a * silu(gate): the gated output of RetNet, GLA and their kin.
Variable SiluGate(Variable a, Variable gate);

// Normalises every row; gain [n] and bias [n] may be invalid. eps is added to
// the variance (kLayer) or the mean square (kRms).
Variable Norm(kernels::NormKind kind, Variable x, Variable gain, Variable bias,
              double eps);

// Causal depthwise convolution along axis 1 of x [batch, length, channels] with
// weight [width, channels] and bias [channels] (or invalid). history
// [batch, width - 1, channels] holds the inputs before the first, oldest first;
// empty means zeros. With a history nothing is differentiable.
Variable CausalConv(Variable x, Variable weight, Variable bias = {},
                    const Tensor& history = {});

// Rotates x [batch, length, heads, dim] by position; token t of every sequence
// stands at first_position + t. See kernels/rotary.h.
Variable Rotary(Variable x, const std::vector<double>& frequencies,
                kernels::RotaryPairing pairing, int64_t first_position);

// Rows of table [vocabulary, width] for ids, each in [0, vocabulary) ->
// [batch, length, width]; ids has batch * length entries.
Variable Embedding(Variable table, absl::Span<const int32_t> ids, int64_t batch,
                   int64_t length);

// Dropout (Srivastava et al., JMLR 2014), inverted: each number of x [batch,
// ...] becomes zero with the probability rate, to the next 1/65536, below 1;
// the others are scaled to keep the mean. What becomes of sequence b follows
// from (seed, first + b) alone, so neither a batch's division nor threads
// matter.
Variable Dropout(Variable x, double rate, uint64_t seed, uint64_t first);

// The listed rows of x as a matrix [rows.size(), n].
Variable GatherRows(Variable x, absl::Span<const int64_t> rows);

// Scalar: weight * sum over rows of the cross-entropy of logits [rows, classes]
// against labels. Writes each row's loss and argmax where not null.
Variable CrossEntropy(Variable logits, absl::Span<const int32_t> labels,
                      double weight, std::vector<double>* losses = nullptr,
                      std::vector<int32_t>* predictions = nullptr);

// Same elements under another shape.
inline Variable Reshape(Variable x, Shape shape) {
  return x.valid() ? x.tape()->Alias(x, std::move(shape)) : x;
}

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_OPS_H_
