// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/arena.h"

#include <algorithm>

#include "attention/tensor/memory.h"

namespace mneme {
namespace {

constexpr size_t kFirstBlock = size_t{1} << 20;

size_t RoundUp(size_t bytes) {
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment *
         Arena::kAlignment;
}

}  // namespace

void Arena::Deleter::operator()(std::byte* block) const {
  FreeMemory(block, size);
}

void Arena::AddBlock(size_t size) {
  void* data = AllocateMemory(size);
  blocks_.push_back({std::unique_ptr<std::byte, Deleter>(
                         static_cast<std::byte*>(data), Deleter{size}),
                     size});
  offset_ = 0;
}

void* Arena::Allocate(size_t bytes) {
  bytes = RoundUp(std::max(bytes, size_t{1}));
  if (blocks_.empty() || blocks_.back().size - offset_ < bytes) {
    // Doubling bounds the number of blocks of the first round by a logarithm.
    AddBlock(std::max({bytes, kFirstBlock, 2 * used_}));
  }
  void* result = blocks_.back().data.get() + offset_;
  offset_ += bytes;
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  return result;
}

void Arena::Reset() {
  if (blocks_.size() > 1) {
    blocks_.clear();
    AddBlock(peak_);
  }
  offset_ = 0;
  used_ = 0;
}

}  // namespace mneme
