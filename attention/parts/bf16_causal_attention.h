// SPDX-License-Identifier: Apache-2.0
//
// CausalAttention over keys and values rounded to bfloat16, where
// precision.h says so. Prompts run on a Bf16Unit if there is one, whole
// whatever the form: its rows do not depend on one another. Decoding reads a
// cache of half the bytes, once for all query heads that share a head of it.

#ifndef MNEME_ATTENTION_PARTS_BF16_CAUSAL_ATTENTION_H_
#define MNEME_ATTENTION_PARTS_BF16_CAUSAL_ATTENTION_H_

#include <cstdint>
#include <memory>

#include "attention/parts/causal_attention.h"

namespace mneme {

class Bf16CausalAttention : public CausalAttention {
 public:
  using CausalAttention::CausalAttention;

  absl::Status Forward(OperatorCall* call) const override;
  // A Bf16KeyValueCache for float32.
  std::unique_ptr<State> NewState(const Dims& d, DType dtype) const override;
  int64_t StateBytes(const Dims& d) const override;
  int64_t StateBytesOf(const Dims& d, DType dtype) const override;
  bool MultipliesBf16() const override { return true; }
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_BF16_CAUSAL_ATTENTION_H_
