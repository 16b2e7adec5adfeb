// SPDX-License-Identifier: Apache-2.0

#include "attention/state.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mneme {
namespace {

std::string Bytes(const void* data, size_t size) {
  return std::string(static_cast<const char*>(data), size);
}

}  // namespace

absl::Status State::Restore(absl::string_view bytes, int64_t tokens) {
  if (static_cast<int64_t>(bytes.size()) != BytesAfter(tokens)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a serialised state of ", bytes.size(), " bytes does not fit: after ",
        tokens, " tokens this state takes ", BytesAfter(tokens)));
  }
  DoRestore(bytes, tokens);
  return absl::OkStatus();
}

std::string DenseState::Serialize() const {
  return Bytes(tensor_.raw(), tensor_.bytes());
}

void DenseState::DoRestore(absl::string_view bytes, int64_t) {
  std::memcpy(tensor_.raw(), bytes.data(), bytes.size());
}

KeyValueCache::KeyValueCache(DType dtype, int64_t batch, int64_t kv_heads,
                             int64_t key_dim, int64_t value_dim)
    : State(dtype, batch),
      keys_(dtype, {batch, 0, kv_heads, key_dim}),
      values_(dtype, {batch, 0, kv_heads, value_dim}) {}

void KeyValueCache::Reserve(int64_t tokens) {
  if (tokens <= keys_.dim(1)) return;
  // Doubling makes n appends cost O(n); 16 spares the first few reallocations.
  const int64_t capacity = std::max({tokens, 2 * keys_.dim(1), int64_t{16}});
  for (Tensor* cache : {&keys_, &values_}) {
    const int64_t batch = cache->dim(0), row = cache->dim(2) * cache->dim(3);
    const size_t row_bytes = row * SizeOf(cache->dtype());
    Tensor grown(cache->dtype(),
                 {batch, capacity, cache->dim(2), cache->dim(3)});
    for (int64_t b = 0; tokens_ * row > 0 && b < batch; ++b) {
      std::memcpy(static_cast<char*>(grown.raw()) + b * capacity * row_bytes,
                  static_cast<const char*>(cache->raw()) +
                      b * cache->dim(1) * row_bytes,
                  tokens_ * row_bytes);
    }
    *cache = grown;
  }
}

void KeyValueCache::Append(const Tensor& keys, const Tensor& values) {
  const int64_t added = keys.dim(1);
  Reserve(tokens_ + added);
  const std::pair<const Tensor*, Tensor*> copies[] = {{&keys, &keys_},
                                                      {&values, &values_}};
  for (const auto& [from, to] : copies) {
    const size_t row_bytes = to->dim(2) * to->dim(3) * SizeOf(to->dtype());
    for (int64_t b = 0; added * row_bytes > 0 && b < to->dim(0); ++b) {
      std::memcpy(static_cast<char*>(to->raw()) +
                      (b * to->dim(1) + tokens_) * row_bytes,
                  static_cast<const char*>(from->raw()) + b * added * row_bytes,
                  added * row_bytes);
    }
  }
  tokens_ += added;
}

int64_t KeyValueCache::BytesAfter(int64_t tokens) const {
  const int64_t row = keys_.dim(2) * (keys_.dim(3) + values_.dim(3));
  return keys_.dim(0) * tokens * row * SizeOf(keys_.dtype());
}

std::string KeyValueCache::Serialize() const {
  std::string out;
  out.reserve(bytes());
  for (const Tensor* cache : {&keys_, &values_}) {
    const size_t row_bytes =
        cache->dim(2) * cache->dim(3) * SizeOf(cache->dtype());
    for (int64_t b = 0; row_bytes > 0 && b < cache->dim(0); ++b) {
      out.append(static_cast<const char*>(cache->raw()) +
                     b * cache->dim(1) * row_bytes,
                 tokens_ * row_bytes);
    }
  }
  return out;
}

void KeyValueCache::DoRestore(absl::string_view bytes, int64_t tokens) {
  tokens_ = 0;
  Reserve(tokens);
  const char* from = bytes.data();
  for (Tensor* cache : {&keys_, &values_}) {
    const size_t row_bytes =
        cache->dim(2) * cache->dim(3) * SizeOf(cache->dtype());
    for (int64_t b = 0; tokens * row_bytes > 0 && b < cache->dim(0); ++b) {
      std::memcpy(
          static_cast<char*>(cache->raw()) + b * cache->dim(1) * row_bytes,
          from, tokens * row_bytes);
      from += tokens * row_bytes;
    }
  }
  tokens_ = tokens;
}

int64_t CompositeState::bytes() const {
  int64_t total = 0;
  for (const auto& part : parts_) total += part->bytes();
  return total;
}

std::string CompositeState::Serialize() const {
  std::string out;
  for (const auto& part : parts_) out += part->Serialize();
  return out;
}

int64_t CompositeState::BytesAfter(int64_t tokens) const {
  int64_t total = 0;
  for (const auto& part : parts_) total += part->BytesAfter(tokens);
  return total;
}

void CompositeState::DoRestore(absl::string_view bytes, int64_t tokens) {
  for (const auto& part : parts_) {
    const size_t size = part->BytesAfter(tokens);
    part->DoRestore(bytes.substr(0, size), tokens);
    bytes.remove_prefix(size);
  }
  position_ = tokens;
}

}  // namespace mneme
