// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/bf16_testing.h"

#include <iostream>

#include "attention/kernels/amx_emulation.h"
#include "attention/kernels/bf16_product.h"
#include "attention/kernels/kernel_testing.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

// However the body ends, the tests after it run on what they expect.
struct ScopedBest {
  ~ScopedBest() { EXPECT_TRUE(UseBf16Unit("best")); }
};

}  // namespace

void ForEachBf16Unit(const std::function<void()>& body) {
  const ScopedAmx amx;
  const ScopedBest best;
  for (const char* const unit : {"amx", "avx512bf16"}) {
    if (UseBf16Unit(unit)) {
      SCOPED_TRACE(testing::Message() << "unit " << unit);
      body();
    } else {
      std::cout << "not run, no support: " << unit << "\n";
    }
  }
  ASSERT_TRUE(UseBf16Unit("portable"));
  SCOPED_TRACE("unit portable");
  ForEachSimdTarget(body);
}

void ForEachSimdTargetAndBf16Unit(const std::function<void()>& body) {
  ForEachSimdTarget(body);
  ForEachBf16Unit(body);
}

}  // namespace mneme::kernels
