// SPDX-License-Identifier: Apache-2.0
//
// The unit on tile registers, executed: in hardware, or trapped and emulated
// (amx_emulation.h). The portable unit has the same results, bit for bit.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iostream>
#include <thread>
#include <vector>

#include "attention/kernels/additive_recurrence.h"
#include "attention/kernels/amx_emulation.h"
#include "attention/kernels/bf16.h"
#include "attention/kernels/bf16_attention.h"
#include "attention/kernels/bf16_product.h"
#include "attention/kernels/bf16_recurrence.h"
#include "attention/kernels/kernel_testing.h"
#include "attention/kernels/matrix.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

using Results = std::vector<float>;

// run(thread) on three threads, each with a series of its own, must be what
// the portable unit computes on one.
void ExpectTilesOnThreads(const std::function<Results(size_t)>& run) {
  constexpr size_t kThreads = 3;
  std::vector<Results> expected, actual(kThreads);
  ASSERT_TRUE(UseBf16Unit("portable"));
  for (size_t i = 0; i < kThreads; ++i) expected.push_back(run(i));

  ScopedAmx amx;
  if (!UseBf16Unit("amx")) {
    std::cout << "not run, no support: amx\n";
    ASSERT_TRUE(UseBf16Unit("best"));
    return;
  }
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { actual[i] = run(i); });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(UseBf16Unit("best"));

  EXPECT_EQ(amx.TakeError(), "");
  for (size_t i = 0; i < kThreads; ++i) {
    EXPECT_EQ(expected[i], actual[i]) << "thread " << i;
  }
  if (!amx.emulated()) return;
  EXPECT_GT(amx.Executed(AmxOperation::kDot), 0);
  // No thread keeps tiles.
  EXPECT_EQ(amx.Executed(AmxOperation::kConfigure), kThreads);
  EXPECT_EQ(amx.Executed(AmxOperation::kRelease), kThreads);
}

std::vector<Bf16> RandomBf16(size_t n, uint64_t seed) {
  std::vector<Bf16> rounded;
  for (const float x : RandomValues<float>(n, seed)) {
    rounded.push_back(RoundToBf16(x));
  }
  return rounded;
}

TEST(Bf16AmxTest, AttentionIsThatOfThePortableUnit) {
  constexpr size_t kQueries = 70, kKeys = 150, kKey = 40, kValue = 24;
  const std::vector<Bf16> k = RandomBf16(kKeys * kKey, 1);
  const std::vector<Bf16> v = RandomBf16(kKeys * kValue, 2);
  ExpectTilesOnThreads([&](size_t thread) {
    const Results q = RandomValues<float>(kQueries * kKey, 10 + thread);
    Results o(kQueries * kValue);
    const Bf16AttentionHead head = {{q.data(), kQueries, kKey},
                                    {o.data(), kQueries, kValue}};
    Bf16AttentionForward(&head, 1, {k.data(), kKeys, kKey},
                         {v.data(), kKeys, kValue}, 0.2f,
                         {/*causal=*/true, /*window=*/0, kKeys - kQueries});
    return o;
  });
}

TEST(Bf16AmxTest, RecurrenceIsThatOfThePortableUnit) {
  constexpr size_t kLength = 150, kKey = 40, kValue = 24;
  ExpectTilesOnThreads([&](size_t thread) {
    const Results q = RandomValues<float>(kLength * kKey, 10 + thread);
    const Results k = RandomValues<float>(kLength * kKey, 20 + thread);
    const Results v = RandomValues<float>(kLength * kValue, 30 + thread);
    const std::vector<float> log_decay(kLength, -0.05f);
    AdditiveRecurrence<float> a;
    a.q = {q.data(), kLength, kKey};
    a.k = {k.data(), kLength, kKey};
    a.v = {v.data(), kLength, kValue};
    a.log_decay = log_decay.data();
    // Outputs and, behind them, the state.
    Results result(kLength * kValue + AdditiveStateSize(kKey, kValue, false));
    Bf16AdditiveForward(a, result.data() + kLength * kValue,
                        {result.data(), kLength, kValue}, nullptr);
    return result;
  });
}

// Unlike other units, whatever the thread has chosen (ScopedFlushDenormals).
TEST(Bf16AmxTest, DenormalsAreZeros) {
  const ScopedAmx amx;
  const Bf16Unit* const unit = Bf16AmxUnit();
  if (unit == nullptr) {
    std::cout << "not run, no support: amx\n";
    return;
  }
  constexpr float kSmallest = 0x1p-126f;
  for (const auto [a, b, c] : {std::array{kSmallest / 2, 0x1p100f, 0.0f},
                               {0x1p100f, kSmallest / 2, 0.0f},
                               {0x1p-70f, 0x1p-70f, 0.0f},
                               {0.0f, 0.0f, kSmallest / 2}}) {
    std::vector<Bf16> as(kBf16Rows * kBf16Step);
    std::vector<uint32_t> bs(kBf16Step / 2 * kBf16Columns);
    std::vector<float> cs(kBf16Rows * kBf16Columns, c);
    as[0] = RoundToBf16(a);
    bs[0] = RoundToBf16(b).bits;
    unit->begin();
    unit->multiply({kBf16Rows,
                    kBf16Step,
                    {as.data(), kBf16Step, kBf16Step},
                    {bs.data(), kBf16Columns},
                    cs.data(),
                    kBf16Columns,
                    /*add=*/true});
    unit->end();
    EXPECT_EQ(cs, std::vector<float>(cs.size())) << a << ", " << b << ", " << c;
  }
}

TEST(Bf16AmxTest, IsPreferredWithWideVectors) {
  ASSERT_TRUE(UseBf16Unit("best"));
  const Bf16Unit* const before = ActiveBf16Unit();
  const ScopedAmx amx;
  EXPECT_EQ(ActiveBf16Unit(), before == nullptr ? nullptr : Bf16AmxUnit());
}

}  // namespace
}  // namespace mneme::kernels
