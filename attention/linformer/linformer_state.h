// SPDX-License-Identifier: Apache-2.0
//
// What the causal Linformer remembers: the slots of all complete blocks, and
// the keys and values of the one that is not.

#ifndef MNEME_ATTENTION_LINFORMER_LINFORMER_STATE_H_
#define MNEME_ATTENTION_LINFORMER_LINFORMER_STATE_H_

#include <cstdint>
#include <string>

#include "attention/operator.h"
#include "attention/parts/window_cache.h"
#include "attention/state.h"

namespace mneme {

class LinformerState : public State {
 public:
  LinformerState(const Dims& d, DType dtype, int64_t block, int64_t slots)
      : State(dtype, d.batch),
        pooled(dtype, d.batch, d.heads, d.key_dim, d.value_dim),
        recent(dtype, d.batch, d.heads, d.key_dim, d.value_dim, block),
        block_(block),
        slots_(slots) {}

  int64_t bytes() const override { return pooled.bytes() + recent.bytes(); }
  std::string Serialize() const override {
    return pooled.Serialize() + recent.Serialize();
  }
  // A block turns into slots as soon as it is complete.
  int64_t BytesAfter(int64_t tokens) const override {
    return pooled.BytesAfter(tokens / block_ * slots_) +
           recent.BytesAfter(tokens % block_);
  }

  KeyValueCache pooled;
  WindowCache recent;

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override {
    // Both fit: State::Restore has checked the size of the whole.
    const int64_t slots = tokens / block_ * slots_;
    const int64_t size = pooled.BytesAfter(slots);
    pooled.Restore(bytes.substr(0, size), slots).IgnoreError();
    recent.Restore(bytes.substr(size), tokens % block_).IgnoreError();
  }

  int64_t block_, slots_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_LINFORMER_LINFORMER_STATE_H_
