// SPDX-License-Identifier: Apache-2.0
//
// Bf16Unit on Intel's tile registers. Beyond the eight instructions below all
// is bf16_tile_product.h, which the portable unit proves on any machine. They
// are written as assembly, so that no function here needs (or makes others
// inherit) the instruction set that only Bf16AmxUnit() makes sure of.

#include "attention/kernels/bf16_product.h"
#include "attention/kernels/bf16_tile_product.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace mneme::kernels {
namespace {

class AmxRegisters {
 public:
  template <int kTile>
  void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  void Load(const void* from, size_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from),
                 "r"(stride)
                 : "memory");
  }
  template <int kTile>
  void Store(void* to, size_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to),
                 "r"(stride)
                 : "memory");
  }
  template <int kSum, int kA, int kB>
  void Dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA),
                 "i"(kB));
  }
};

// What ldtilecfg reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// The tiles' state is not saved across the end of a series: a thread with
// tiles in use takes 8 KiB more at every context switch.
void Begin() {
  const TileConfig config;
  asm volatile("ldtilecfg %0" ::"m"(config));
}
void End() { asm volatile("tilerelease"); }

void Multiply(const Bf16Multiplication& m) {
  AmxRegisters registers;
  MultiplyByTiles(m, registers);
}

bool HasAmx() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  // Does the operating system switch the state (XCR0), and does it let this
  // process use it? Linux wants to be asked, once for all threads.
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return false;
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t kTileState = 3u << 17;
  if ((low & kTileState) != kTileState) return false;
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

const Bf16Unit* Bf16AmxUnit() {
  static constexpr Bf16Unit kUnit = {"amx", Begin, End, Multiply};
  static const bool has_amx = HasAmx();
  return has_amx ? &kUnit : nullptr;
}

}  // namespace mneme::kernels

#else

namespace mneme::kernels {

const Bf16Unit* Bf16AmxUnit() { return nullptr; }

}  // namespace mneme::kernels

#endif
