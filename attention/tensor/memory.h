// SPDX-License-Identifier: Apache-2.0
//
// The memory of tensors and arenas.

#ifndef MNEME_ATTENTION_TENSOR_MEMORY_H_
#define MNEME_ATTENTION_TENSOR_MEMORY_H_

#include <cstddef>

namespace mneme {

// Uninitialised, aligned to cache lines and AVX-512 vectors. Large blocks are
// in huge pages where the system has them: rows of one head lie kilobytes
// apart, so that with ordinary pages every row or two needs an address
// translation of its own, and those are slower than the rows. Throws
// std::bad_alloc when the system has no memory left.
void* AllocateMemory(size_t bytes);

// bytes as allocated.
void FreeMemory(void* data, size_t bytes);

}  // namespace mneme

#endif  // MNEME_ATTENTION_TENSOR_MEMORY_H_
