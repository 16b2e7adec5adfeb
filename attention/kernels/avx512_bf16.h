// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_ATTENTION_KERNELS_AVX512_BF16_H_
#define MNEME_ATTENTION_KERNELS_AVX512_BF16_H_

namespace mneme::kernels {

// Whether the CPU and the operating system have AVX512-BF16: dot products of
// bfloat16 pairs in vector registers. Who uses them compiles a function for
// them alone.
inline bool HasAvx512Bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_AVX512_BF16_H_
