// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/amx.h"

#include <atomic>

#include "attention/kernels/amx_assume.h"

#if MNEME_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mneme::kernels {
namespace {

std::atomic<bool> assumed{false};

#if MNEME_AMX

bool AskForTiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  // Does the operating system switch the state (XCR0), and does it let this
  // process use it? As it is 8 KiB more to save for each thread, Linux wants to
  // be asked (arch_prctl(2)), once for all threads.
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return false;
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr uint32_t kTileState = 3u << 17;
  if ((low & kTileState) != kTileState) return false;
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#else

bool AskForTiles() { return false; }

#endif  // MNEME_AMX

}  // namespace

bool HasAmxBf16() {
  static const bool has = AskForTiles();
  return has || assumed.load(std::memory_order_relaxed);
}

void AssumeAmxBf16(bool assume) { assumed = assume; }

}  // namespace mneme::kernels
