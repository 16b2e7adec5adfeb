// SPDX-License-Identifier: Apache-2.0
//
// Bf16Unit on Intel's tile registers. Beyond the instructions (amx.h) all is
// bf16_tile_product.h, which the portable unit proves on any machine.

#include "attention/kernels/amx.h"
#include "attention/kernels/bf16_product.h"
#include "attention/kernels/bf16_tile_product.h"

namespace mneme::kernels {

#if MNEME_AMX

namespace {

void Multiply(const Bf16Multiplication& m) {
  AmxRegisters registers;
  MultiplyByTiles(m, registers);
}

}  // namespace

const Bf16Unit* Bf16AmxUnit() {
  static constexpr Bf16Unit kUnit = {"amx", AmxRegisters::Begin,
                                     AmxRegisters::End, Multiply};
  return HasAmxBf16() ? &kUnit : nullptr;
}

#else

const Bf16Unit* Bf16AmxUnit() { return nullptr; }

#endif  // MNEME_AMX

}  // namespace mneme::kernels
