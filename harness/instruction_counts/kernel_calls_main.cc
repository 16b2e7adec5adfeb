// SPDX-License-Identifier: Apache-2.0
//
// What callgrind watches. With the name of a kernel: calls it twice on AVX2,
// and only the second call, in CountedCall, is to be counted. Without: prints
// what a count depends on, and the kernels with their useful work.

#include <cstdlib>
#include <iostream>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "attention/kernels/simd.h"
#include "harness/instruction_counts/counted_kernels.h"
#include "hwy/highway.h"

// Counting begins and ends with this function, which --toggle-collect names; a
// C function, as it would want the types of parameters as valgrind spells them.
// What follows the call keeps the compiler from replacing it by a jump.
extern "C" __attribute__((noinline)) void CountedCall(
    const mneme::KernelCall& call) {
  call();
  asm volatile("" ::: "memory");
}

namespace mneme {
namespace {

#ifdef __clang__
constexpr char kCompiler[] = "clang " __clang_version__;
#else
constexpr char kCompiler[] = "gcc " __VERSION__;
#endif

int List() {
  std::cout << "# compiler: " << kCompiler << "\n# highway: " << HWY_MAJOR
            << "." << HWY_MINOR << "." << HWY_PATCH << "\n";
  for (const CountedKernel& kernel : CountedKernels()) {
    std::cout << kernel.name << " " << kernel.flops << "\n";
  }
  return EXIT_SUCCESS;
}

int Count(absl::string_view name) {
  // The widest that Valgrind knows. Its CPUID says so to the C library, too.
  const absl::Status restricted = kernels::UseSimdTarget("AVX2");
  if (!restricted.ok()) {
    std::cerr << restricted.message() << "\n";
    return EXIT_FAILURE;
  }
  for (const CountedKernel& kernel : CountedKernels()) {
    if (kernel.name != name) continue;
    const KernelCall call = kernel.make();
    // Whatever happens once in a process: choosing a target, binding symbols,
    // scratch memory.
    call();
    CountedCall(call);
    return EXIT_SUCCESS;
  }
  std::cerr << "there is no kernel " << name << "\n";
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) {
#ifndef __OPTIMIZE__
  std::cerr << "built without optimisation: nothing worth counting\n";
  return EXIT_FAILURE;
#endif
  return argc == 2 ? mneme::Count(argv[1]) : mneme::List();
}
