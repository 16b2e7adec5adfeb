// SPDX-License-Identifier: Apache-2.0
//
// The loops behind the ceilings that depend on the SIMD target: each does one
// thing as often as the CPU can, on the target that kernels run on now
// (attention/kernels/simd.h). Each returns how many units it did; the caller
// holds the clock. Safe to call from several threads at once.

#ifndef MNEME_HARNESS_THROUGHPUT_SIMD_LOOPS_H_
#define MNEME_HARNESS_THROUGHPUT_SIMD_LOOPS_H_

#include <cstddef>
#include <cstdint>

namespace mneme {

// Float32 multiply-adds on registers alone, in enough independent chains to
// hide their latency. Returns FLOPs, two for each multiply-add and lane.
double RunMultiplyAdds(int64_t rounds);

// The cheapest exponential that kernels have (FastExp2NonPositive), float32, on
// registers alone. Returns exponentials.
double RunExps(int64_t rounds);

// Loads the `bytes` at `data` into registers `rounds` times and does nothing
// with them. data is aligned to 64, bytes a multiple of 1024. Returns bytes.
double ReadBytes(const void* data, size_t bytes, int64_t rounds);

// Likewise adds one to each 32-bit number and puts it back: a cache takes back
// what was written while it hands out what is read next. Returns bytes, read
// and written ones together.
double ReadWriteBytes(void* data, size_t bytes, int64_t rounds);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_SIMD_LOOPS_H_
