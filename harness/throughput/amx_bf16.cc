// SPDX-License-Identifier: Apache-2.0
//
// A translation unit of its own: its functions are compiled for a CPU that need
// not be the one that runs the rest.

#include "harness/throughput/matrix_units.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mneme {

#if defined(__x86_64__) && defined(__linux__)

namespace {

// CPUID leaf 7, EDX.
constexpr unsigned kAmxBf16 = 1u << 22;
constexpr unsigned kAmxTile = 1u << 24;

// arch_prctl(2): tiles are 8 KiB more to save for each thread, so Linux hands
// them out on request, to a process and its future threads. It refuses where it
// does not save them itself.
constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
constexpr int kTileData = 18;               // XFEATURE_XTILEDATA

// What LDTILECFG loads.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64, "");

// All eight tiles at their full size. A constant, because GCC 12 believes that
// _tile_loadconfig reads 8 bytes, and leaves out what is stored behind them.
constexpr TileConfig kFullTiles = {1,
                                   0,
                                   {},
                                   {64, 64, 64, 64, 64, 64, 64, 64},
                                   {16, 16, 16, 16, 16, 16, 16, 16}};
constexpr double kFlops = 2.0 * 16 * 16 * 32;

bool AskForTiles() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & kAmxBf16) == 0 || (edx & kAmxTile) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool HasAmxBf16() {
  static const bool has = AskForTiles();
  return has;
}

// Four tiles of sums are enough: a product starts every 16 cycles and takes 52.
__attribute__((target("amx-tile,amx-bf16"))) double RunAmxDots(int64_t rounds) {
  _tile_loadconfig(&kFullTiles);  // of this thread
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 4 * kFlops * static_cast<double>(rounds);
}

#else

bool HasAmxBf16() { return false; }
double RunAmxDots(int64_t /*rounds*/) { return 0; }

#endif  // defined(__x86_64__) && defined(__linux__)

}  // namespace mneme
