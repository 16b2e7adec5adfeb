// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_product.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "attention/kernels/amx_emulation.h"
#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_testing.h"
#include "attention/kernels/denormals.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/simd.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

// Operands in memory with gaps between rows, and steps of A apart.
struct Problem {
  Problem(size_t rows, size_t depth, bool packed, bool add)
      : rows(rows),
        depth(depth),
        a_row_stride(packed ? kBf16Step : depth + 6),
        a_step_stride(packed ? rows * kBf16Step + 4 : kBf16Step),
        b_stride(kBf16Columns + (packed ? 0 : 3)),
        c_stride(kBf16Columns + (packed ? 0 : 5)),
        add(add),
        a(packed ? depth / kBf16Step * a_step_stride : rows * a_row_stride),
        b(depth / 2 * b_stride),
        c(RandomValues<float>(rows * c_stride, 3)) {
    const std::vector<float> a_values = RandomValues<float>(a.size(), 1);
    for (size_t i = 0; i < a.size(); ++i) a[i] = RoundToBf16(a_values[i]);
    const std::vector<float> b_values = RandomValues<float>(2 * b.size(), 2);
    for (size_t i = 0; i < b.size(); ++i) {
      b[i] = RoundToBf16(b_values[2 * i]).bits |
             uint32_t{RoundToBf16(b_values[2 * i + 1]).bits} << 16;
    }
  }

  float A(size_t r, size_t k) const {
    return ToFloat(
        a[k / kBf16Step * a_step_stride + r * a_row_stride + k % kBf16Step]);
  }
  float B(size_t k, size_t n) const {
    const uint32_t pair = b[k / 2 * b_stride + n];
    return ToFloat(Bf16{static_cast<uint16_t>(pair >> 16 * (k % 2))});
  }

  std::vector<float> Run(const Bf16Unit& unit) const {
    std::vector<float> result = c;
    unit.begin();
    unit.multiply({rows,
                   depth,
                   {a.data(), a_row_stride, a_step_stride},
                   {b.data(), b_stride},
                   result.data(),
                   c_stride,
                   add});
    unit.end();
    return result;
  }

  size_t rows, depth, a_row_stride, a_step_stride, b_stride, c_stride;
  bool add;
  std::vector<Bf16> a;
  std::vector<uint32_t> b;
  std::vector<float> c;
};

std::vector<Problem> Problems() {
  std::vector<Problem> problems;
  for (const size_t rows : {16, 32, 48, 64, 80, 144}) {
    for (const size_t depth : {32, 64, 96, 256}) {
      for (const bool packed : {false, true}) {
        for (const bool add : {false, true}) {
          problems.emplace_back(rows, depth, packed, add);
        }
      }
    }
  }
  return problems;
}

TEST(Bf16ProductTest, MatchesTheDefinition) {
  for (const Problem& p : Problems()) {
    SCOPED_TRACE(std::to_string(p.rows) + " rows, depth " +
                 std::to_string(p.depth) + (p.add ? ", added" : ""));
    // Elements of C, and what lies between its rows.
    std::vector<double> expected(p.c.begin(), p.c.end());
    for (size_t r = 0; r < p.rows; ++r) {
      for (size_t n = 0; n < kBf16Columns; ++n) {
        double& sum = expected[r * p.c_stride + n];
        if (!p.add) sum = 0;
        for (size_t k = 0; k < p.depth; ++k) {
          sum += double{p.A(r, k)} * p.B(k, n);
        }
      }
    }
    ForEachBf16Unit([&] {
      const std::vector<float> actual = p.Run(*ActiveBf16Unit());
      ExpectNear(expected, actual, 1e-6, 1.5e-7 * p.depth, "c");
      EXPECT_EQ(actual, p.Run(*ActiveBf16Unit())) << "a repeated call differs";
    });
  }
}

// tdpbf16ps as Intel specifies it, product by product: what the portable unit
// must be to the bit, and hardware is if it is there.
TEST(Bf16ProductTest, TilesMatchTheInstruction) {
  for (const Problem& p : Problems()) {
    std::vector<float> expected = p.c;
    for (size_t r = 0; r < p.rows; ++r) {
      for (size_t n = 0; n < kBf16Columns; ++n) {
        float& sum = expected[r * p.c_stride + n];
        if (!p.add) sum = 0;
        for (size_t step = 0; step < p.depth; step += kBf16Step) {
          float first = 0, second = 0;
          for (size_t k = step; k < step + kBf16Step; k += 2) {
            first = std::fma(p.A(r, k), p.B(k, n), first);
            second = std::fma(p.A(r, k + 1), p.B(k + 1, n), second);
          }
          sum += first + second;
        }
      }
    }
    const ScopedAmx amx;
    if (Bf16AmxUnit() != nullptr) {
      EXPECT_EQ(expected, p.Run(*Bf16AmxUnit()));
    }
    // SIMD targets without a fused multiply-add round twice.
    EXPECT_EQ(expected, p.Run(*Bf16PortableUnit()));
  }
}

TEST(Bf16ProductTest, NaNAndInfinityStayInTheirRowsAndColumns) {
  for (const float poison : {std::numeric_limits<float>::quiet_NaN(),
                             std::numeric_limits<float>::infinity()}) {
    Problem p(48, 64, /*packed=*/false, /*add=*/false);
    p.a[17 * p.a_row_stride + 40] = RoundToBf16(poison);  // A(17, 40)
    ForEachBf16Unit([&] {
      const std::vector<float> c = p.Run(*ActiveBf16Unit());
      for (size_t r = 0; r < p.rows; ++r) {
        for (size_t n = 0; n < kBf16Columns; ++n) {
          EXPECT_EQ(std::isfinite(c[r * p.c_stride + n]), r != 17);
        }
      }
    });
  }
}

// Kernels run with denormals flushed; then all units do the same.
TEST(Bf16ProductTest, DenormalsAreZeros) {
  Problem p(16, 32, /*packed=*/true, /*add=*/false);
  for (Bf16& x : p.a) x = RoundToBf16(1e-20f);
  const uint32_t small = RoundToBf16(1e-20f).bits;
  for (uint32_t& pair : p.b) pair = small | small << 16;
  const ScopedFlushDenormals flush;
  ForEachBf16Unit([&] {
    for (const float x : p.Run(*ActiveBf16Unit())) EXPECT_EQ(x, 0);
  });
}

TEST(Bf16ProductTest, UnitsAreChosenByName) {
  for (const std::string& name : SupportedBf16Units()) {
    ASSERT_TRUE(UseBf16Unit(name));
    ASSERT_NE(ActiveBf16Unit(), nullptr);
    EXPECT_EQ(ActiveBf16Unit()->name, name);
  }
  EXPECT_FALSE(UseBf16Unit("abacus"));
  EXPECT_TRUE(UseBf16Unit("best"));
  const std::string best = SupportedBf16Units().front();
  if (best == "portable") {
    EXPECT_EQ(ActiveBf16Unit(), nullptr);
  } else {
    EXPECT_EQ(ActiveBf16Unit()->name, best);
  }
}

TEST(ForEachBf16Unit, LeavesTheBestHoweverTheBodyEnds) {
  const auto name = [] {
    const Bf16Unit* const unit = ActiveBf16Unit();
    return std::string(unit == nullptr ? "none" : unit->name);
  };
  const std::string best = name();
  for (const std::string& stop : SupportedBf16Units()) {
    EXPECT_THROW(ForEachBf16Unit([&] {
                   if (name() == stop) throw std::runtime_error(stop);
                 }),
                 std::runtime_error);
    EXPECT_EQ(name(), best);
    EXPECT_EQ(SimdTarget(), SupportedSimdTargets().front());
  }
}

}  // namespace
}  // namespace mneme::kernels
