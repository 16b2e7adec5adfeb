// SPDX-License-Identifier: Apache-2.0
//
// A bump allocator for the tensors of one training step. A step allocates the
// same hundred tensors every time; taking them from an arena that is rewound
// keeps them at the same, cache-warm addresses and costs no system calls.

#ifndef MNEME_ATTENTION_TENSOR_ARENA_H_
#define MNEME_ATTENTION_TENSOR_ARENA_H_

#include <cstddef>
#include <memory>
#include <vector>

namespace mneme {

// Not thread-safe: one arena per thread.
class Arena {
 public:
  // Cache-line and AVX-512 vector alignment of every allocation.
  static constexpr size_t kAlignment = 64;

  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // bytes of uninitialised memory that live until Reset() or destruction.
  // Throws std::bad_alloc when the system has none left.
  void* Allocate(size_t bytes);

  // Forgets all allocations and keeps the memory, merged into one block, for
  // the next round.
  void Reset();

  // Most bytes ever in use between two resets.
  size_t peak_bytes() const { return peak_; }

 private:
  struct Deleter {
    size_t size = 0;
    void operator()(std::byte* block) const;
  };
  struct Block {
    std::unique_ptr<std::byte, Deleter> data;
    size_t size = 0;
  };
  void AddBlock(size_t size);

  std::vector<Block> blocks_;  // the last one is being filled
  size_t offset_ = 0;          // into the last block
  size_t used_ = 0;            // in all blocks since Reset
  size_t peak_ = 0;
};

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_ARENA_H_
