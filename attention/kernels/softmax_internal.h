// SPDX-License-Identifier: Apache-2.0
//
// The parts of the softmax attention kernels that no SIMD target changes.

#ifndef MNEME_ATTENTION_KERNELS_SOFTMAX_INTERNAL_H_
#define MNEME_ATTENTION_KERNELS_SOFTMAX_INTERNAL_H_

#include <algorithm>
#include <cstddef>
#include <new>

#include "attention/kernels/matrix.h"
#include "attention/kernels/softmax_attention.h"
#include "hwy/aligned_allocator.h"

namespace mneme::kernels {

// Arguments of SoftmaxAttentionBackward.
template <typename T>
struct SoftmaxGradients {
  MatrixView<const T> q, k, v, o;
  const T* lse;
  MatrixView<const T> d_o;
  T scale;
  AttentionMask mask;
  MatrixView<T> d_q, d_k, d_v;
};

// Keys [begin, end).
struct KeyRange {
  bool empty() const { return begin == end; }

  size_t begin;
  size_t end;
};

// What a query row sees. Neither end ever moves back from row to row.
inline KeyRange VisibleKeys(const AttentionMask& mask, size_t keys,
                            size_t query) {
  const size_t next = mask.query_offset + query + 1;
  const size_t end = mask.causal ? std::min(keys, next) : keys;
  const bool limited = mask.window != 0 && next > mask.window;
  return {limited ? std::min(next - mask.window, end) : 0, end};
}

// Cuts one allocation into arrays. The memory belongs to the thread and only
// ever grows, because a call on a short sequence takes less time than an
// allocation. It holds leftovers of earlier calls. There must be one
// SoftmaxScratch<T> per thread at a time.
template <typename T>
class SoftmaxScratch {
 public:
  // Room for `arrays` arrays of `elements` elements in all.
  SoftmaxScratch(size_t arrays, size_t elements) {
    thread_local Memory memory;
    const size_t size = elements + arrays * kAlignment;
    if (memory.size < size) {
      memory.data = hwy::AllocateAligned<T>(size);
      if (memory.data == nullptr) {
        memory.size = 0;
        throw std::bad_alloc();
      }
      memory.size = size;
      // No result depends on these values, but denormals would cost time.
      std::fill_n(memory.data.get(), size, T{0});
    }
    next_ = memory.data.get();
  }

  // The next array, aligned to a cache line, whose elements are not set.
  T* Take(size_t elements) {
    T* const array = next_;
    next_ += (elements + kAlignment - 1) / kAlignment * kAlignment;
    return array;
  }

 private:
  static constexpr size_t kAlignment = 64 / sizeof(T);

  struct Memory {
    hwy::AlignedFreeUniquePtr<T[]> data;
    size_t size = 0;
  };

  T* next_;
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_SOFTMAX_INTERNAL_H_
