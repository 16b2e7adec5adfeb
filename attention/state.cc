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
      keys_(dtype, {batch, kv_heads, 0, key_dim}),
      values_(dtype, {batch, kv_heads, 0, value_dim}) {}

char* KeyValueCache::Sequence(const Tensor& cache, int64_t i) {
  return static_cast<char*>(cache.raw()) + i * cache.dim(2) * RowBytes(cache);
}

void KeyValueCache::Reserve(int64_t tokens) {
  if (tokens <= keys_.dim(2)) return;
  // Doubling makes n appends cost O(n); 16 spares the first few reallocations.
  const int64_t capacity = std::max({tokens, 2 * keys_.dim(2), int64_t{16}});
  for (Tensor* cache : {&keys_, &values_}) {
    const Tensor grown(cache->dtype(),
                       {cache->dim(0), cache->dim(1), capacity, cache->dim(3)});
    const size_t held = tokens_ * RowBytes(*cache);
    for (int64_t i = 0; held > 0 && i < Sequences(); ++i) {
      std::memcpy(Sequence(grown, i), Sequence(*cache, i), held);
    }
    *cache = grown;
  }
}

void KeyValueCache::Append(const Tensor& keys, const Tensor& values) {
  const int64_t added = keys.dim(1), heads = keys.dim(2);
  Reserve(tokens_ + added);
  const std::pair<const Tensor*, Tensor*> copies[] = {{&keys, &keys_},
                                                      {&values, &values_}};
  for (const auto& [from, to] : copies) {
    const size_t row = RowBytes(*to);
    for (int64_t i = 0; row > 0 && i < Sequences(); ++i) {
      const int64_t b = i / heads, h = i % heads;
      const char* source =
          static_cast<const char*>(from->raw()) + (b * added * heads + h) * row;
      char* target = Sequence(*to, i) + tokens_ * row;
      for (int64_t t = 0; t < added; ++t) {
        std::memcpy(target + t * row, source + t * heads * row, row);
      }
    }
  }
  tokens_ += added;
}

int64_t KeyValueCache::BytesAfter(int64_t tokens) const {
  const size_t row = RowBytes(keys_) + RowBytes(values_);
  return Sequences() * tokens * static_cast<int64_t>(row);
}

std::string KeyValueCache::Serialize() const {
  std::string out;
  out.reserve(bytes());
  for (const Tensor* cache : {&keys_, &values_}) {
    const size_t held = tokens_ * RowBytes(*cache);
    for (int64_t i = 0; held > 0 && i < Sequences(); ++i) {
      out.append(Sequence(*cache, i), held);
    }
  }
  return out;
}

void KeyValueCache::DoRestore(absl::string_view bytes, int64_t tokens) {
  tokens_ = 0;
  Reserve(tokens);
  const char* from = bytes.data();
  for (Tensor* cache : {&keys_, &values_}) {
    const size_t held = tokens * RowBytes(*cache);
    for (int64_t i = 0; held > 0 && i < Sequences(); ++i) {
      std::memcpy(Sequence(*cache, i), from, held);
      from += held;
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
