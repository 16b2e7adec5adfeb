// SPDX-License-Identifier: Apache-2.0
//
// The keys and values of the last few tokens, in a ring: token t lies in slot
// t mod window. What a decoder with a limited view remembers.

#ifndef MNEME_ATTENTION_PARTS_WINDOW_CACHE_H_
#define MNEME_ATTENTION_PARTS_WINDOW_CACHE_H_

#include <algorithm>
#include <cstdint>
#include <string>

#include "attention/state.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// Takes min(tokens, window) * kv_heads * (key_dim + value_dim) numbers a
// sequence, in slots of the whole batch.
class WindowCache : public State {
 public:
  WindowCache(DType dtype, int64_t batch, int64_t kv_heads, int64_t key_dim,
              int64_t value_dim, int64_t window);

  // keys [batch, n, kv_heads, key_dim], values [batch, n, kv_heads, value_dim]:
  // their tokens [first, first + count) replace the oldest ones.
  void Append(const Tensor& keys, const Tensor& values, int64_t first,
              int64_t count);
  void Clear() { tokens_ = 0; }

  // Tokens remembered.
  int64_t held() const { return std::min(tokens_, window_); }

  // Rows of one sequence and head, [held(), key_dim] and [held(), value_dim],
  // in the order of slots: the order of time until the window is full. Valid
  // until the next change.
  template <typename T>
  kernels::MatrixView<const T> Keys(int64_t b, int64_t h) const {
    return View<T>(keys_, b, h);
  }
  template <typename T>
  kernels::MatrixView<const T> Values(int64_t b, int64_t h) const {
    return View<T>(values_, b, h);
  }

  // The keys of all sequences and heads side by side, [held(), batch * kv_heads
  // * key_dim], in the same order.
  template <typename T>
  kernels::MatrixView<const T> AllKeys() const {
    const size_t cols = keys_.dim(1) * keys_.dim(2) * keys_.dim(3);
    return {keys_.data<T>(), static_cast<size_t>(held()), cols};
  }

  // What is remembered, oldest first, followed by new tokens: [batch, held() +
  // n, kv_heads, *] in the arena.
  Tensor KeysThen(const Tensor& keys, Arena* arena) const {
    return Joined(keys_, keys, arena);
  }
  Tensor ValuesThen(const Tensor& values, Arena* arena) const {
    return Joined(values_, values, arena);
  }

  int64_t bytes() const override { return BytesAfter(tokens_); }
  std::string Serialize() const override;
  int64_t BytesAfter(int64_t tokens) const override;

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override;
  void Reserve(int64_t slots);
  Tensor Joined(const Tensor& ring, const Tensor& added, Arena* arena) const;

  template <typename T>
  kernels::MatrixView<const T> View(const Tensor& ring, int64_t b,
                                    int64_t h) const {
    const int64_t heads = ring.dim(2), dim = ring.dim(3);
    return {ring.data<T>() + (b * heads + h) * dim, static_cast<size_t>(held()),
            static_cast<size_t>(dim),
            static_cast<size_t>(ring.dim(1) * heads * dim)};
  }

  int64_t window_;
  int64_t tokens_ = 0;
  // [slots, batch, kv_heads, dim]: more slots are more at the end.
  Tensor keys_, values_;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_WINDOW_CACHE_H_
