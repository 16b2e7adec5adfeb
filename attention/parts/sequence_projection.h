// SPDX-License-Identifier: Apache-2.0
//
// Linformer's projections along the sequence (arXiv 2006.04768): E turns many
// tokens' keys into a few rows, F their values, and softmax attention reads
// those rows instead.

#ifndef MNEME_ATTENTION_PARTS_SEQUENCE_PROJECTION_H_
#define MNEME_ATTENTION_PARTS_SEQUENCE_PROJECTION_H_

#include <cstdint>
#include <vector>

#include "attention/kernels/gemm.h"
#include "attention/mixer.h"
#include "attention/plugin/options.h"

namespace mneme {

// E and F of a layer, as parameters.
class SequenceProjection {
 public:
  // Option sharing: nobody (none), all heads of a layer (headwise), keys and
  // values as well (key_value), or all layers too (layerwise), for which the
  // first layer hands its matrix on.
  static OptionSpec SharingOption();

  // rows x cols for every head, Xavier normal as the field's implementation.
  SequenceProjection(const MixerConfig& config, int64_t rows, int64_t cols);

  // The first `count` <= rows of E and of F, [heads, count, cols] each. Call it
  // in every layer.
  std::vector<Variable> Rows(const MixerCall& call, int64_t count) const;

 private:
  bool layerwise_, per_head_;
  int64_t heads_, rows_, cols_;
  // Null in the later layers of layerwise sharing; equal if E is F.
  const Parameter* e_ = nullptr;
  const Parameter* f_ = nullptr;
};

// The plainest E, for every head: a row is the mean of tokens / slots
// neighbours. [heads, slots, tokens], or its transpose by tokens if `stored`
// says so.
Tensor NeighbourMeans(kernels::Transpose stored, int64_t heads, int64_t slots,
                      int64_t tokens, DType dtype);

// slots = E x: x [tokens, dim] becomes [slots, dim]. `stored` says whether e
// holds E [slots, tokens] or its transpose.
template <typename T>
void ProjectTokens(kernels::Transpose stored, kernels::MatrixView<const T> e,
                   kernels::MatrixView<const T> x,
                   kernels::MatrixView<T> slots) {
  kernels::Gemm(stored, kernels::Transpose::kNo, e, x, slots);
}

// Adds the gradients that d_slots gives e, as stored, and x.
template <typename T>
void ProjectTokensBackward(kernels::Transpose stored,
                           kernels::MatrixView<const T> e,
                           kernels::MatrixView<const T> x,
                           kernels::MatrixView<const T> d_slots,
                           kernels::MatrixView<T> d_e,
                           kernels::MatrixView<T> d_x) {
  using kernels::Transpose;
  const bool transposed = stored == Transpose::kYes;
  kernels::GemmEpilogue<T> add;
  add.beta = 1;
  kernels::Gemm(Transpose::kNo, Transpose::kYes, transposed ? x : d_slots,
                transposed ? d_slots : x, d_e, add);
  kernels::Gemm(transposed ? Transpose::kNo : Transpose::kYes, Transpose::kNo,
                e, d_slots, d_x, add);
}

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_SEQUENCE_PROJECTION_H_
