// SPDX-License-Identifier: Apache-2.0
//
// Intel's tile registers and their products of bfloat16 pairs: whether there
// are any, and the instructions. These are written as assembly, so that no
// function that uses them needs (or makes others inherit) an instruction set
// that only HasAmxBf16() makes sure of.

#ifndef MNEME_ATTENTION_KERNELS_AMX_H_
#define MNEME_ATTENTION_KERNELS_AMX_H_

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__linux__)
#define MNEME_AMX 1
#else
#define MNEME_AMX 0
#endif

namespace mneme::kernels {

// Of the CPU and the operating system, which the first call asks to let this
// process use tiles.
bool HasAmxBf16();

// What ldtilecfg reads: all eight registers at their full size.
struct alignas(64) AmxConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(AmxConfig) == 64);

#if MNEME_AMX

// The eight registers of the calling thread, between Begin and End: zeros at
// first. A thread with tiles in use takes 8 KiB more at every context switch,
// so they are not kept beyond a series of products. Strides are in bytes.
struct AmxRegisters {
  static void Begin() {
    const AmxConfig config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void End() { asm volatile("tilerelease"); }

  template <int kTile>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  static void Load(const void* from, size_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from),
                 "r"(stride)
                 : "memory");
  }
  template <int kTile>
  static void Store(void* to, size_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to),
                 "r"(stride)
                 : "memory");
  }
  // Sum [16, 16] float += A [16, 32] B [32, 16]; B in pairs.
  template <int kSum, int kA, int kB>
  static void Dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA),
                 "i"(kB));
  }
};

#endif  // MNEME_AMX

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_AMX_H_
