// SPDX-License-Identifier: Apache-2.0
//
// What a mechanism remembers between tokens: the memory whose size the
// leaderboard compares. A State can be written to bytes and restored, and those
// bytes are exactly the memory a decoder must keep; nothing is padded and
// nothing is left out.

#ifndef MNEME_ATTENTION_STATE_H_
#define MNEME_ATTENTION_STATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "attention/tensor/tensor.h"

namespace mneme {

class State {
 public:
  // Of `batch` sequences, holding numbers of the given type.
  State(DType dtype, int64_t batch) : dtype_(dtype), batch_(batch) {}
  virtual ~State() = default;

  DType dtype() const { return dtype_; }
  int64_t batch() const { return batch_; }

  // Size of Serialize()'s result at this moment.
  virtual int64_t bytes() const = 0;
  virtual std::string Serialize() const = 0;
  // What bytes() will be after `tokens` tokens.
  virtual int64_t BytesAfter(int64_t tokens) const = 0;
  // Replaces the contents by what Serialize returned after `tokens` tokens.
  // InvalidArgument when the size is not BytesAfter(tokens); the state is
  // unchanged then.
  absl::Status Restore(absl::string_view bytes, int64_t tokens);

 private:
  friend class CompositeState;
  // Called with a checked size.
  virtual void DoRestore(absl::string_view bytes, int64_t tokens) = 0;

  DType dtype_;
  int64_t batch_;
};

// A state of fixed size: one tensor [batch, ...], initially zero.
class DenseState : public State {
 public:
  DenseState(DType dtype, const Shape& shape)
      : State(dtype, shape.dim(0)), tensor_(dtype, shape) {}

  // Shares the state's memory: writing to it changes the state.
  const Tensor& tensor() const { return tensor_; }

  int64_t bytes() const override { return tensor_.bytes(); }
  std::string Serialize() const override;
  int64_t BytesAfter(int64_t) const override { return tensor_.bytes(); }

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override;

  Tensor tensor_;
};

// The keys and values of all tokens so far: softmax attention's memory, which
// grows by 2 * kv_heads * head_dim numbers a token (more exactly kv_heads *
// (key_dim + value_dim)). Appending is amortised O(1); spare capacity does not
// count as state. With value_dim 0 it keeps keys alone. Serialised are first
// keys, then values, [batch, kv_heads, tokens, dim]: of one process, no format
// to store.
class KeyValueCache : public State {
 public:
  KeyValueCache(DType dtype, int64_t batch, int64_t kv_heads, int64_t key_dim,
                int64_t value_dim);

  // keys [batch, n, kv_heads, key_dim], values [batch, n, kv_heads, value_dim].
  void Append(const Tensor& keys, const Tensor& values);

  int64_t tokens() const { return tokens_; }
  // Rows of one sequence and head: [tokens, key_dim] and [tokens, value_dim].
  // Valid until the next Append or Restore.
  template <typename T>
  kernels::MatrixView<const T> Keys(int64_t b, int64_t h) const {
    return View<T>(keys_, b, h);
  }
  template <typename T>
  kernels::MatrixView<const T> Values(int64_t b, int64_t h) const {
    return View<T>(values_, b, h);
  }

  int64_t bytes() const override { return BytesAfter(tokens_); }
  std::string Serialize() const override;
  int64_t BytesAfter(int64_t tokens) const override;

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override;
  void Reserve(int64_t tokens);
  int64_t Sequences() const { return keys_.dim(0) * keys_.dim(1); }
  static size_t RowBytes(const Tensor& cache) {
    return cache.dim(3) * SizeOf(cache.dtype());
  }
  // The tokens of sequence and head i, 0 <= i < Sequences().
  static char* Sequence(const Tensor& cache, int64_t i);
  template <typename T>
  kernels::MatrixView<const T> View(const Tensor& cache, int64_t b,
                                    int64_t h) const {
    const size_t capacity = cache.dim(2), width = cache.dim(3);
    return {cache.data<T>() + (b * cache.dim(1) + h) * capacity * width,
            static_cast<size_t>(tokens_), width};
  }

  // [batch, kv_heads, capacity, dim], unlike what is appended: a decoder reads
  // all of it for every token, and fastest when a head's rows lie one after the
  // other.
  Tensor keys_, values_;
  int64_t tokens_ = 0;
};

// Several states as one, serialised one after the other; and the number of
// tokens absorbed, which costs no state: every decoder knows its position.
class CompositeState : public State {
 public:
  using State::State;

  void Add(std::unique_ptr<State> part) { parts_.push_back(std::move(part)); }
  State* part(size_t i) const { return parts_[i].get(); }
  size_t size() const { return parts_.size(); }

  int64_t position() const { return position_; }
  void Advance(int64_t tokens) { position_ += tokens; }

  int64_t bytes() const override;
  std::string Serialize() const override;
  int64_t BytesAfter(int64_t tokens) const override;

 private:
  void DoRestore(absl::string_view bytes, int64_t tokens) override;

  std::vector<std::unique_ptr<State>> parts_;
  int64_t position_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_STATE_H_
