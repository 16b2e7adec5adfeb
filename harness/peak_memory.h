// SPDX-License-Identifier: Apache-2.0
//
// The most memory this process held resident, as the kernel counts it (VmHWM).

#ifndef MNEME_HARNESS_PEAK_MEMORY_H_
#define MNEME_HARNESS_PEAK_MEMORY_H_

#include <cstdint>

namespace mneme {

// Starts counting anew from what is resident now. False where the kernel does
// not let us; then PeakMemoryBytes counts from the start of the process.
bool ResetPeakMemory();

// 0 where the kernel does not say.
int64_t PeakMemoryBytes();

}  // namespace mneme

#endif  // MNEME_HARNESS_PEAK_MEMORY_H_
