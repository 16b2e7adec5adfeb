// SPDX-License-Identifier: Apache-2.0
//
// What Infini-attention remembers: the compressive memory of all complete
// segments, and the keys and values of the one that is not.

#ifndef MNEME_ATTENTION_INFINI_INFINI_STATE_H_
#define MNEME_ATTENTION_INFINI_INFINI_STATE_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "attention/operator.h"
#include "attention/parts/window_cache.h"
#include "attention/state.h"

namespace mneme {

class InfiniState : public State {
 public:
  InfiniState(const Dims& d, DType dtype, int64_t segment,
              std::vector<double> frequencies)
      : State(dtype, d.batch),
        memory(dtype, {d.batch, d.heads, d.key_dim, d.value_dim + 1}),
        recent(dtype, d.batch, d.heads, d.key_dim, d.value_dim, segment),
        frequencies(std::move(frequencies)),
        segment_(segment) {}

  int64_t bytes() const override { return memory.bytes() + recent.bytes(); }
  std::string Serialize() const override {
    return std::string(static_cast<const char*>(memory.raw()), memory.bytes()) +
           recent.Serialize();
  }
  // A segment moves into the memory as soon as it is complete.
  int64_t BytesAfter(int64_t tokens) const override {
    return memory.bytes() + recent.BytesAfter(tokens % segment_);
  }

  Tensor memory;       // [batch, heads, key_dim, value_dim + 1]: M, then z
  WindowCache recent;  // keys are not rotated
  // Of rotary positions in a segment, empty for none: a constant that takes as
  // long to compute as a step.
  const std::vector<double> frequencies;

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override {
    std::memcpy(memory.raw(), bytes.data(), memory.bytes());
    bytes.remove_prefix(memory.bytes());
    // Fits: State::Restore has checked the size of the whole.
    recent.Restore(bytes, tokens % segment_).IgnoreError();
  }

  int64_t segment_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_INFINI_INFINI_STATE_H_
