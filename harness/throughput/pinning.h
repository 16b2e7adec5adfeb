// SPDX-License-Identifier: Apache-2.0
//
// Keeping threads where they are while they are timed. Linux likes to wake a
// worker on the CPU of whoever wakes it, and in the milliseconds of one
// repetition may never move it elsewhere: two threads then take turns on one
// CPU, for seconds, and are no faster than one.

#ifndef MNEME_HARNESS_THROUGHPUT_PINNING_H_
#define MNEME_HARNESS_THROUGHPUT_PINNING_H_

#include <vector>

#include "attention/kernels/parallel.h"

namespace mneme {

// The CPUs that so many threads are kept on, the calling thread's first: the
// last of `cpus`, because the first ones serve most interrupts. All, from the
// last, if there are not more than threads.
std::vector<int> PinnedCpus(const std::vector<int>& cpus, int threads);

// While one lives, the calling thread and the workers of a pool, if any, stay
// on one of PinnedCpus each, over again if there are fewer of them. Threads
// that are started meanwhile stay where their parent is, so make the pool
// before. Afterwards all may run on all of `cpus` again. Does nothing for empty
// cpus, nor where the system does not let it. The pool outlives it and is idle
// at both ends.
class ScopedPinning {
 public:
  ScopedPinning(const std::vector<int>& cpus, kernels::ThreadPool* pool);
  ~ScopedPinning();
  ScopedPinning(const ScopedPinning&) = delete;
  ScopedPinning& operator=(const ScopedPinning&) = delete;

 private:
  const std::vector<int> cpus_;
  kernels::ThreadPool* const pool_;
};

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_PINNING_H_
