// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/amx.h"
#include "harness/throughput/matrix_units.h"

namespace mneme {

#if MNEME_AMX

// Four tiles of sums are enough: a product starts every 16 cycles and takes 52.
double RunAmxDots(int64_t rounds) {
  constexpr double kFlops = 2.0 * 16 * 16 * 32;
  kernels::AmxRegisters tiles;
  tiles.Begin();
  for (int64_t round = 0; round < rounds; ++round) {
    tiles.Dot<0, 4, 6>();
    tiles.Dot<1, 4, 7>();
    tiles.Dot<2, 5, 6>();
    tiles.Dot<3, 5, 7>();
  }
  tiles.End();
  return 4 * kFlops * static_cast<double>(rounds);
}

#else

double RunAmxDots(int64_t /*rounds*/) { return 0; }

#endif  // MNEME_AMX

}  // namespace mneme
