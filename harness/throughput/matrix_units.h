// SPDX-License-Identifier: Apache-2.0
//
// Loops over the x86 instructions for bfloat16 products, which Highway 1.0.3
// does not have, and whether this machine has them: AVX512-BF16, whose dot
// products share the ports of multiply-adds, and AMX, a matrix unit of its own.
// As in simd_loops.h each loop returns the FLOPs it did, may be called from
// several threads at once, and leaves the clock to the caller. On a machine
// without the instructions they must not be called.

#ifndef MNEME_HARNESS_THROUGHPUT_MATRIX_UNITS_H_
#define MNEME_HARNESS_THROUGHPUT_MATRIX_UNITS_H_

#include <cstdint>

#include "attention/kernels/amx.h"
#include "attention/kernels/avx512_bf16.h"

namespace mneme {

using kernels::HasAmxBf16;
using kernels::HasAvx512Bf16;

// VDPBF16PS on registers: 2 products of pairs added to each of 16 lanes.
double RunBf16Dots(int64_t rounds);

// TDPBF16PS on tiles: 16 x 32 times 32 x 16, added to 16 x 16 in float32.
double RunAmxDots(int64_t rounds);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_MATRIX_UNITS_H_
