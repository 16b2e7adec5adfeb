// SPDX-License-Identifier: Apache-2.0
//
// The kernels whose instructions are counted, each with a fixed problem: the
// same calls on the same numbers every time, so that two counts of one binary
// agree to the instruction.

#ifndef MNEME_HARNESS_INSTRUCTION_COUNTS_COUNTED_KERNELS_H_
#define MNEME_HARNESS_INSTRUCTION_COUNTS_COUNTED_KERNELS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mneme {

// One call of a kernel, with all that it reads and writes.
using KernelCall = std::function<void()>;

struct CountedKernel {
  std::string name;
  // Useful work of one call, as by the definition of the mathematics: what an
  // algorithm adds to it (chunks, recomputation) shows in the instructions. An
  // exponential is one operation.
  int64_t flops;
  std::function<KernelCall()> make;
};

const std::vector<CountedKernel>& CountedKernels();

}  // namespace mneme

#endif  // MNEME_HARNESS_INSTRUCTION_COUNTS_COUNTED_KERNELS_H_
