// SPDX-License-Identifier: Apache-2.0
//
// A KeyValueCache (state.h) that keeps keys and values as bfloat16: half the
// bytes to hold, and to read for every token that is decoded. Rows of one head
// lie one after the other, so that decoding reads memory in a single run.

#ifndef MNEME_ATTENTION_PARTS_BF16_CACHE_H_
#define MNEME_ATTENTION_PARTS_BF16_CACHE_H_

#include <cstdint>
#include <string>

#include "attention/kernels/bf16.h"
#include "attention/kernels/matrix.h"
#include "attention/state.h"
#include "attention/tensor/tensor.h"

namespace mneme {

// Of calls in float32. Appending is amortised O(1); spare capacity does not
// count as state.
class Bf16KeyValueCache : public State {
 public:
  Bf16KeyValueCache(int64_t batch, int64_t kv_heads, int64_t key_dim,
                    int64_t value_dim);

  // Rounds keys [batch, n, kv_heads, key_dim] and values [batch, n, kv_heads,
  // value_dim], both float32, to the nearest.
  void Append(const Tensor& keys, const Tensor& values);

  int64_t tokens() const { return tokens_; }
  // Rows of one sequence and head: [tokens, key_dim] and [tokens, value_dim].
  // Valid until the next Append or Restore.
  kernels::MatrixView<const kernels::Bf16> Keys(int64_t b, int64_t h) const {
    return Head(keys_, key_dim_, b, h);
  }
  kernels::MatrixView<const kernels::Bf16> Values(int64_t b, int64_t h) const {
    return Head(values_, value_dim_, b, h);
  }

  int64_t bytes() const override { return BytesAfter(tokens_); }
  std::string Serialize() const override;
  int64_t BytesAfter(int64_t tokens) const override;

 private:
  // Two numbers to each float: tensors know where large memory comes from.
  class Storage {
   public:
    Storage() = default;
    explicit Storage(int64_t size)
        : tensor_(DType::kFloat32, {(size + 1) / 2}) {}

    kernels::Bf16* data() const {
      return static_cast<kernels::Bf16*>(tensor_.raw());
    }

   private:
    Tensor tensor_;
  };

  void DoRestore(absl::string_view bytes, int64_t tokens) override;
  void Reserve(int64_t tokens);
  // [capacity, dim] of one sequence and head.
  kernels::MatrixView<kernels::Bf16> All(Storage& cache, int64_t dim, int64_t b,
                                         int64_t h) {
    return {cache.data() + (b * kv_heads_ + h) * capacity_ * dim,
            static_cast<size_t>(capacity_), static_cast<size_t>(dim)};
  }
  kernels::MatrixView<const kernels::Bf16> Head(const Storage& cache,
                                                int64_t dim, int64_t b,
                                                int64_t h) const {
    return {cache.data() + (b * kv_heads_ + h) * capacity_ * dim,
            static_cast<size_t>(tokens_), static_cast<size_t>(dim)};
  }

  int64_t kv_heads_, key_dim_, value_dim_;
  int64_t tokens_ = 0, capacity_ = 0;
  Storage keys_, values_;  // [batch, kv_heads, capacity_, dim]
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_PARTS_BF16_CACHE_H_
