// SPDX-License-Identifier: Apache-2.0
//
// bfloat16: the upper half of a float. It keeps float's range and 8 of its 24
// significant bits; rounding errors are at most 2^-8 of the number.

#ifndef MNEME_ATTENTION_KERNELS_BF16_H_
#define MNEME_ATTENTION_KERNELS_BF16_H_

#include <cstdint>
#include <cstring>

#include "attention/kernels/matrix.h"

namespace mneme::kernels {

// Storage, not arithmetic.
struct Bf16 {
  uint16_t bits = 0;
};

inline float ToFloat(Bf16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The nearest, ties to even; beyond the greatest, infinity. A NaN stays one,
// quiet, with its sign.
inline Bf16 RoundToBf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7FFFFFFF) > 0x7F800000) {
    return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  }
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}

// to(r, c) = RoundToBf16(from(r, c)) for matrices of the same size.
void RoundToBf16(MatrixView<const float> from, MatrixView<Bf16> to);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_BF16_H_
