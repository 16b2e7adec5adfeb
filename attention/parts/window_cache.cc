// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/window_cache.h"

#include <cstring>

namespace mneme {
namespace {

size_t RowBytes(const Tensor& t) {
  return t.dim(2) * t.dim(3) * SizeOf(t.dtype());
}

// The row of all heads at indices (i, j) of a tensor's two outer axes.
char* Row(const Tensor& t, int64_t i, int64_t j) {
  return static_cast<char*>(t.raw()) + (i * t.dim(1) + j) * RowBytes(t);
}

}  // namespace

WindowCache::WindowCache(DType dtype, int64_t batch, int64_t kv_heads,
                         int64_t key_dim, int64_t value_dim, int64_t window)
    : State(dtype, batch),
      window_(window),
      keys_(dtype, {0, batch, kv_heads, key_dim}),
      values_(dtype, {0, batch, kv_heads, value_dim}) {}

void WindowCache::Reserve(int64_t slots) {
  if (slots <= keys_.dim(0)) return;
  // Doubling, so that a window far longer than the text costs nothing.
  const int64_t capacity =
      std::min(window_, std::max({slots, 2 * keys_.dim(0), int64_t{16}}));
  for (Tensor* ring : {&keys_, &values_}) {
    Tensor grown(dtype(), {capacity, batch(), ring->dim(2), ring->dim(3)});
    if (held() > 0) {
      std::memcpy(grown.raw(), ring->raw(), held() * batch() * RowBytes(*ring));
    }
    *ring = grown;
  }
}

void WindowCache::Append(const Tensor& keys, const Tensor& values,
                         int64_t first, int64_t count) {
  Reserve(std::min(tokens_ + count, window_));
  // Of more tokens than the window holds, only the last survive.
  for (int64_t t = std::max<int64_t>(0, count - window_); t < count; ++t) {
    const int64_t slot = (tokens_ + t) % window_;
    for (int64_t b = 0; b < batch(); ++b) {
      std::memcpy(Row(keys_, slot, b), Row(keys, b, first + t), RowBytes(keys));
      std::memcpy(Row(values_, slot, b), Row(values, b, first + t),
                  RowBytes(values));
    }
  }
  tokens_ += count;
}

Tensor WindowCache::Joined(const Tensor& ring, const Tensor& added,
                           Arena* arena) const {
  const int64_t old = held(), n = added.dim(1);
  Tensor joined(arena, dtype(), {batch(), old + n, ring.dim(2), ring.dim(3)});
  for (int64_t b = 0; b < batch(); ++b) {
    for (int64_t i = 0; i < old; ++i) {
      std::memcpy(Row(joined, b, i),
                  Row(ring, (tokens_ - old + i) % window_, b), RowBytes(ring));
    }
    std::memcpy(Row(joined, b, old), Row(added, b, 0), n * RowBytes(added));
  }
  return joined;
}

int64_t WindowCache::BytesAfter(int64_t tokens) const {
  return std::min(tokens, window_) * batch() *
         (RowBytes(keys_) + RowBytes(values_));
}

std::string WindowCache::Serialize() const {
  std::string out;
  for (const Tensor* ring : {&keys_, &values_}) {
    if (held() == 0) continue;
    out.append(static_cast<const char*>(ring->raw()),
               held() * batch() * RowBytes(*ring));
  }
  return out;
}

void WindowCache::DoRestore(absl::string_view bytes, int64_t tokens) {
  tokens_ = 0;
  Reserve(std::min(tokens, window_));
  tokens_ = tokens;
  for (const Tensor* ring : {&keys_, &values_}) {
    if (held() == 0) continue;
    const size_t size = held() * batch() * RowBytes(*ring);
    std::memcpy(ring->raw(), bytes.data(), size);
    bytes.remove_prefix(size);
  }
}

}  // namespace mneme
