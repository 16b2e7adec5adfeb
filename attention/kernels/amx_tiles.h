// SPDX-License-Identifier: Apache-2.0
//
// The tile registers of one thread in memory, and what AMX's instructions do
// with them and when a CPU refuses: palette 1 of the definition in Intel's
// Software Developer's Manual, volume 2. For tests (amx_emulation.h).

#ifndef MNEME_ATTENTION_KERNELS_AMX_TILES_H_
#define MNEME_ATTENTION_KERNELS_AMX_TILES_H_

#include <cstddef>
#include <cstdint>

#include "attention/kernels/amx.h"

namespace mneme::kernels {

// As a thread finds them at its start: without a configuration. Functions
// return why a CPU would raise an exception, having done nothing, or null.
// Tile numbers may be any. Safe to call in signal handlers.
class AmxTiles {
 public:
  const char* Configure(const AmxConfig& config);  // ldtilecfg
  const char* Release();                           // tilerelease
  const char* Zero(int tile);                      // tilezero
  // tileloadd and tilestored; strides in bytes.
  const char* Load(int tile, const char* from, ptrdiff_t stride);
  const char* Store(int tile, char* to, ptrdiff_t stride);
  const char* Dot(int sum, int a, int b);  // tdpbf16ps

 private:
  static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

  // Zeros beyond its rows and row_bytes, always.
  struct Tile {
    int rows = 0, row_bytes = 0;
    uint32_t data[kRows][kRowBytes / sizeof(uint32_t)] = {};
  };

  const char* RefuseTile(int tile) const;
  const char* RefuseTransfer(int tile) const;
  static void AddDots(const Tile& a, const Tile& b, Tile* sum);

  bool configured_ = false;
  int start_row_ = 0;
  Tile tiles_[kTiles];
};

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_AMX_TILES_H_
