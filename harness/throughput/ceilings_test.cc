// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/ceilings.h"

#include <cmath>
#include <iostream>
#include <iterator>

#include "attention/kernels/amx_emulation.h"
#include "attention/kernels/kernel_testing.h"
#include "gtest/gtest.h"
#include "harness/throughput/matrix_units.h"
#include "harness/throughput/simd_loops.h"

namespace mneme {
namespace {

constexpr int64_t kKibibyte = 1 << 10;
constexpr int64_t kMebibyte = 1 << 20;
constexpr Caches kCaches = {
    Cache{48 * kKibibyte, 1}, {kMebibyte, 1}, {32 * kMebibyte, 8}};

// Short enough that nothing is measured.
constexpr double kNoTime = 1e-6;

TEST(SimdLoops, CountWhatTheyDo) {
  alignas(64) static const char data[4096] = {};
  kernels::ForEachSimdTarget([] {
    EXPECT_GT(RunMultiplyAdds(1), 0);
    EXPECT_EQ(RunMultiplyAdds(1000), 1000 * RunMultiplyAdds(1));
    EXPECT_GT(RunExps(1), 0);
    EXPECT_EQ(RunExps(1000), 1000 * RunExps(1));
    EXPECT_EQ(ReadBytes(data, sizeof(data), 3), 3.0 * sizeof(data));
    alignas(64) uint32_t numbers[256] = {};
    EXPECT_EQ(ReadWriteBytes(numbers, sizeof(numbers), 3),
              6.0 * sizeof(numbers));
    for (const uint32_t number : numbers) EXPECT_EQ(number, 3);
  });
}

TEST(MatrixUnits, CountWhatTheyDo) {
  if (HasAvx512Bf16()) {
    EXPECT_EQ(RunBf16Dots(10), 10 * 24 * 16 * 2 * 2);
  }
  const kernels::ScopedAmx amx;
  if (HasAmxBf16()) {
    EXPECT_EQ(RunAmxDots(10), 10 * 4 * 16 * 16 * 32 * 2);
  }
  EXPECT_EQ(amx.Executed(kernels::AmxOperation::kDot),
            amx.emulated() ? 10 * 4 : 0);
}

TEST(LevelBufferBytes, FitTheirLevelAndNotTheOneBelow) {
  for (int threads : {1, 2, 8}) {
    int64_t below = 0;
    for (int level = 0; level < 3; ++level) {
      const int64_t bytes = LevelBufferBytes(kCaches, level, threads);
      EXPECT_EQ(bytes % 1024, 0);
      EXPECT_GT(bytes, below);
      EXPECT_LT(bytes * threads, kCaches[level].BytesOf(threads));
      below = kCaches[level].bytes;
    }
    EXPECT_GE(LevelBufferBytes(kCaches, 3, threads) * threads, 4 * below);
  }
}

TEST(LevelBufferBytes, AreThoseOfTheCachesThereAre) {
  Caches caches = kCaches;
  caches[2] = {};
  EXPECT_EQ(LevelBufferBytes(caches, 2, 1), 0);
  EXPECT_EQ(LevelBufferBytes(caches, 3, 1), 64 * kMebibyte);
  EXPECT_EQ(LevelBufferBytes(Caches(), 0, 1), 0);
  EXPECT_EQ(LevelBufferBytes(Caches(), 3, 1), 64 * kMebibyte);
  // A host's share of a large one: enough, without filling the memory.
  caches[2] = {400 * kMebibyte, 64};
  EXPECT_EQ(LevelBufferBytes(caches, 3, 1), 800 * kMebibyte);
}

TEST(CeilingLoop, RunsOnAllThreads) {
  const kernels::ScopedAmx amx;
  kernels::ThreadPool pool(3);
  LevelMemory memory(kCaches, 3);
  for (Ceiling ceiling : kAllCeilings) {
    const auto loop = CeilingLoop::Make(ceiling, &memory, &pool, kNoTime);
    if (!loop.ok()) {
      EXPECT_EQ(loop.status().code(), absl::StatusCode::kUnimplemented);
      std::cout << "not run: " << loop.status().message() << "\n";
      continue;
    }
    const double units = (*loop)->Run();
    EXPECT_GT(units, 0) << CeilingName(ceiling);
    if (CeilingUnit(ceiling) == "B") {
      const int level =
          (static_cast<int>(ceiling) - static_cast<int>(Ceiling::kL1)) % 4;
      const double pass =
          3.0 * static_cast<double>(LevelBufferBytes(kCaches, level, 3));
      EXPECT_EQ(units, std::floor(units / pass) * pass);
    }
  }
}

TEST(CeilingLoop, IsUnimplementedWithoutTheCache) {
  LevelMemory memory(Caches(), 1);
  EXPECT_EQ(CeilingLoop::Make(Ceiling::kL3, &memory, nullptr, kNoTime)
                .status()
                .message(),
            "no L3 cache, or its size is unknown");
}

TEST(LevelMemory, IsTheSameForAllLoopsOfALevel) {
  LevelMemory memory(kCaches, 2);
  const auto buffers = memory.Of(1);
  EXPECT_EQ(memory.Of(1), buffers);
  EXPECT_NE(memory.Of(0), buffers);
  const int64_t others = buffers.use_count();
  const auto reads = CeilingLoop::Make(Ceiling::kL2, &memory, nullptr, kNoTime);
  const auto read_writes =
      CeilingLoop::Make(Ceiling::kL2ReadWrite, &memory, nullptr, kNoTime);
  EXPECT_EQ(buffers.use_count(), others + 2);
}

TEST(MeasureRates, KeepsThreeTurnsAtLeast) {
  int turns = -1;  // the first question is of what was before
  const auto rates = MeasureRates(kCaches, nullptr, kNoTime, [&] {
    ++turns;
    return true;
  });
  EXPECT_EQ(turns, 3);
  ASSERT_EQ(rates.size(), std::size(kAllCeilings));
  for (const CeilingRates& r : rates) {
    EXPECT_EQ(r.per_second.size(), r.status.ok() ? 3 : 0)
        << CeilingName(r.ceiling);
  }
  const Ceilings ceilings = Summarise(rates, kCaches, 1);
  EXPECT_GT(ceilings.Rate(Ceiling::kMultiplyAdd), 0);
  EXPECT_GT(ceilings.Rate(Ceiling::kDram), 0);
  EXPECT_EQ(ceilings.Rate(Ceiling::kBf16) > 0, HasAvx512Bf16());
  EXPECT_EQ(ceilings.Rate(Ceiling::kAmx) > 0, HasAmxBf16());
}

TEST(MeasureRates, DoesDisturbedTurnsAgain) {
  int turns = -1;
  const auto rates =
      MeasureRates(kCaches, nullptr, kNoTime, [&] { return ++turns != 1; });
  EXPECT_EQ(turns, 1 + 3);
  EXPECT_EQ(rates.front().per_second.size(), 3);
}

TEST(MeasureRates, TakesWhatItGetsOnAMachineThatIsNeverQuiet) {
  int turns = -1;
  const auto rates = MeasureRates(kCaches, nullptr, kNoTime, [&] {
    ++turns;
    return false;
  });
  EXPECT_EQ(turns, 10 + 3);
  EXPECT_EQ(rates.front().per_second.size(), 3);
}

TEST(Summarise, TakesMedians) {
  const Ceilings c =
      Summarise({{Ceiling::kExp, absl::OkStatus(), {5, 1, 2}},
                 {Ceiling::kAmx, absl::UnimplementedError("no AMX"), {}}},
                kCaches, 10);
  EXPECT_EQ(c.Rate(Ceiling::kExp), 2);
  EXPECT_EQ(c.Rate(Ceiling::kAmx), 0);
  EXPECT_EQ(c.threads, 10);
  EXPECT_EQ(c.cache_bytes[0], 480 * kKibibyte);
  EXPECT_EQ(c.cache_bytes[2], 64 * kMebibyte);
}

}  // namespace
}  // namespace mneme
