// SPDX-License-Identifier: Apache-2.0
//
// What log-linear attention remembers: a matrix for every bucket of the Fenwick
// tree, which after p tokens are as many as p has bits.

#ifndef MNEME_ATTENTION_LOG_LINEAR_LOG_LINEAR_STATE_H_
#define MNEME_ATTENTION_LOG_LINEAR_LOG_LINEAR_STATE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "attention/kernels/fenwick.h"
#include "attention/operator.h"
#include "attention/state.h"

namespace mneme {

class LogLinearState : public State {
 public:
  LogLinearState(const Dims& d, DType dtype, int64_t levels)
      : State(dtype, d.batch),
        fenwick_(levels),
        levels_(levels),
        shape_({d.batch, d.kv_heads, d.key_dim,
                d.heads / d.kv_heads * d.value_dim}),
        buckets_(fenwick_.top() + 1) {}

  int64_t levels() const { return levels_; }
  int64_t position() const { return position_; }
  void Advance(int64_t tokens) { position_ += tokens; }

  // Advances by one token that kernels::LogLinearStep has taken.
  void AdvanceByStep() {
    const int meet = fenwick_.Meeting(position_, position_ + 1);
    std::rotate(&buckets_[1], &buckets_[1] + 1, &buckets_[1] + meet);
    ++position_;
  }

  // The matrices of each level [batch, kv_heads, key_dim, heads / kv_heads *
  // value_dim]: the heads that share keys stand side by side. Those that hold
  // no bucket until `tokens` more tokens have come may be empty. What holds no
  // bucket now is memory, but not part of the state.
  const std::vector<Tensor>& Levels(int64_t tokens) {
    const int64_t levels = std::min<int64_t>(
        fenwick_.top() + 1, kernels::Fenwick::LevelsFor(position_ + tokens));
    for (int64_t level = 1; level < levels; ++level) {
      if (buckets_[level].empty()) buckets_[level] = Tensor(dtype(), shape_);
    }
    return buckets_;
  }

  int64_t bytes() const override { return BytesAfter(position_); }
  std::string Serialize() const override {
    std::string bytes;
    for (const kernels::Bucket& bucket : fenwick_.Before(position_)) {
      const Tensor& tensor = buckets_[bucket.level];
      bytes.append(static_cast<const char*>(tensor.raw()), tensor.bytes());
    }
    return bytes;
  }
  int64_t BytesAfter(int64_t tokens) const override {
    return static_cast<int64_t>(fenwick_.Before(tokens).size()) *
           shape_.elements() * SizeOf(dtype());
  }

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override {
    position_ = tokens;
    Levels(0);
    for (const kernels::Bucket& bucket : fenwick_.Before(tokens)) {
      const Tensor& tensor = buckets_[bucket.level];
      std::memcpy(tensor.raw(), bytes.data(), tensor.bytes());
      bytes.remove_prefix(tensor.bytes());
    }
  }

  kernels::Fenwick fenwick_;
  int64_t levels_;
  Shape shape_;
  std::vector<Tensor> buckets_;  // by level; empty until needed
  int64_t position_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_LOG_LINEAR_LOG_LINEAR_STATE_H_
