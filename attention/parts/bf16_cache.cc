// SPDX-License-Identifier: Apache-2.0

#include "attention/parts/bf16_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace mneme {

using kernels::Bf16;

Bf16KeyValueCache::Bf16KeyValueCache(int64_t batch, int64_t kv_heads,
                                     int64_t key_dim, int64_t value_dim)
    : State(DType::kFloat32, batch),
      kv_heads_(kv_heads),
      key_dim_(key_dim),
      value_dim_(value_dim) {}

void Bf16KeyValueCache::Reserve(int64_t tokens) {
  if (tokens <= capacity_) return;
  // Doubling makes n appends cost O(n); but who begins with all of them will
  // hardly add as many.
  const int64_t grown = capacity_ == 0 ? std::max(tokens, int64_t{16})
                                       : std::max(tokens, 2 * capacity_);
  const std::pair<Storage*, int64_t> caches[] = {{&keys_, key_dim_},
                                                 {&values_, value_dim_}};
  for (const auto& [cache, dim] : caches) {
    Storage moved(batch() * kv_heads_ * grown * dim);
    for (int64_t i = 0; tokens_ * dim > 0 && i < batch() * kv_heads_; ++i) {
      std::memcpy(moved.data() + i * grown * dim,
                  cache->data() + i * capacity_ * dim,
                  tokens_ * dim * sizeof(Bf16));
    }
    *cache = std::move(moved);
  }
  capacity_ = grown;
}

void Bf16KeyValueCache::Append(const Tensor& keys, const Tensor& values) {
  const int64_t added = keys.dim(1);
  Reserve(tokens_ + added);
  // By some tokens at a time, whose heads lie side by side in the inputs.
  constexpr int64_t kTokens = 32;
  for (int64_t b = 0; b < batch(); ++b) {
    for (int64_t t = 0; t < added; t += kTokens) {
      const int64_t count = std::min(kTokens, added - t);
      for (int64_t h = 0; h < kv_heads_; ++h) {
        kernels::RoundToBf16(
            keys.Sequence<float>(b, h).Rows(t, count),
            All(keys_, key_dim_, b, h).Rows(tokens_ + t, count));
        kernels::RoundToBf16(
            values.Sequence<float>(b, h).Rows(t, count),
            All(values_, value_dim_, b, h).Rows(tokens_ + t, count));
      }
    }
  }
  tokens_ += added;
}

int64_t Bf16KeyValueCache::BytesAfter(int64_t tokens) const {
  return batch() * tokens * kv_heads_ * (key_dim_ + value_dim_) *
         static_cast<int64_t>(sizeof(Bf16));
}

std::string Bf16KeyValueCache::Serialize() const {
  std::string out;
  out.reserve(bytes());
  const std::pair<const Storage*, int64_t> caches[] = {{&keys_, key_dim_},
                                                       {&values_, value_dim_}};
  for (const auto& [cache, dim] : caches) {
    for (int64_t i = 0; tokens_ * dim > 0 && i < batch() * kv_heads_; ++i) {
      out.append(
          reinterpret_cast<const char*>(cache->data() + i * capacity_ * dim),
          tokens_ * dim * sizeof(Bf16));
    }
  }
  return out;
}

void Bf16KeyValueCache::DoRestore(absl::string_view bytes, int64_t tokens) {
  tokens_ = 0;
  Reserve(tokens);
  const char* from = bytes.data();
  const std::pair<Storage*, int64_t> caches[] = {{&keys_, key_dim_},
                                                 {&values_, value_dim_}};
  for (const auto& [cache, dim] : caches) {
    const size_t size = tokens * dim * sizeof(Bf16);
    for (int64_t i = 0; size > 0 && i < batch() * kv_heads_; ++i) {
      std::memcpy(cache->data() + i * capacity_ * dim, from, size);
      from += size;
    }
  }
  tokens_ = tokens;
}

}  // namespace mneme
