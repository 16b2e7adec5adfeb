// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

float FromBits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// The definition: of the two neighbours the nearer one, of two as near the one
// whose last bit is 0. Both are exact in double.
uint16_t Nearest(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const uint16_t below = bits >> 16;  // towards zero
  const double low = ToFloat(Bf16{below});
  // The neighbour of the greatest number is where 2^128 would be.
  const double high = (below & 0x7FFF) == 0x7F7F
                          ? std::copysign(std::ldexp(1.0, 128), x)
                          : ToFloat(Bf16{static_cast<uint16_t>(below + 1)});
  const double to_low = std::abs(x - low), to_high = std::abs(high - x);
  if (to_low != to_high) return to_low < to_high ? below : below + 1;
  return below % 2 == 0 ? below : below + 1;
}

// Every sign, exponent and upper mantissa, with lower halves around the ties.
std::vector<float> Samples() {
  std::vector<float> samples;
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    for (const uint32_t lower :
         {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      samples.push_back(FromBits(upper << 16 | lower));
    }
  }
  return samples;
}

TEST(Bf16Test, RoundsToTheNearest) {
  for (const float x : Samples()) {
    const Bf16 rounded = RoundToBf16(x);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(ToFloat(rounded)));
      EXPECT_EQ(std::signbit(ToFloat(rounded)), std::signbit(x));
    } else if (std::isinf(x)) {
      EXPECT_EQ(ToFloat(rounded), x);
    } else {
      ASSERT_EQ(rounded.bits, Nearest(x)) << x;
    }
  }
}

TEST(Bf16Test, EveryNumberIsItself) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Bf16 x{static_cast<uint16_t>(bits)};
    if (std::isnan(ToFloat(x))) continue;
    EXPECT_EQ(RoundToBf16(ToFloat(x)).bits, x.bits);
  }
}

TEST(Bf16Test, MatricesAreRoundedAlike) {
  const std::vector<float> samples = Samples();
  for (const size_t cols : {1, 3, 15, 16, 17, 64, 1000}) {
    const size_t rows = samples.size() / (cols + 2);
    const MatrixView<const float> from(samples.data(), rows, cols, cols + 2);
    ForEachSimdTarget([&] {
      constexpr uint16_t kGap = 0x1234;
      std::vector<Bf16> memory(rows * (cols + 1), Bf16{kGap});
      const MatrixView<Bf16> to(memory.data(), rows, cols, cols + 1);
      RoundToBf16(from, to);
      size_t wrong = 0;
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = 0; c < cols; ++c) {
          wrong += to(r, c).bits != RoundToBf16(from(r, c)).bits;
        }
        wrong += to.row(r)[cols].bits != kGap;
      }
      EXPECT_EQ(wrong, 0u) << cols << " columns";
    });
  }
}

}  // namespace
}  // namespace mneme::kernels
