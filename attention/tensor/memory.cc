// SPDX-License-Identifier: Apache-2.0

#include "attention/tensor/memory.h"

#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mneme {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
// The last huge page is hardly ever full. From this size on less than half is
// wasted.
constexpr size_t kLarge = 2 * kHugePage;

std::align_val_t Alignment(size_t bytes) {
  return std::align_val_t{bytes >= kLarge ? kHugePage : 64};
}

}  // namespace

void* AllocateMemory(size_t bytes) {
  void* const data = ::operator new(bytes, Alignment(bytes));
#ifdef MADV_HUGEPAGE
  // A refusal is no failure: pages are small then.
  if (bytes >= kLarge) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}

void FreeMemory(void* data, size_t bytes) {
  ::operator delete(data, Alignment(bytes));
}

}  // namespace mneme
