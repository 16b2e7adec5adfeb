// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/limit.h"

#include "gtest/gtest.h"

namespace mneme {
namespace {

// Rates with which every term can be told from the others.
Ceilings Machine() {
  Ceilings c;
  c.cache_bytes = {100, 1000, 10000};
  const auto set = [&](Ceiling ceiling, double rate) {
    c.per_second[static_cast<size_t>(ceiling)] = rate;
  };
  set(Ceiling::kMultiplyAdd, 100);
  set(Ceiling::kExp, 10);
  set(Ceiling::kL1, 80);
  set(Ceiling::kL2, 40);
  set(Ceiling::kL3, 20);
  set(Ceiling::kDram, 5);
  set(Ceiling::kAmx, 1000);
  return c;
}

Cost Work(double flops, double exps, double bytes) {
  Cost cost;
  cost.flops = flops;
  cost.exps = exps;
  cost.bytes = bytes;
  return cost;
}

TEST(Limit, AddsExponentialsToMultiplyAdds) {
  const auto limit = LimitOf(Work(300, 20, 80), 50, Machine(), Traffic::kReads);
  ASSERT_TRUE(limit.ok()) << limit.status();
  EXPECT_EQ(limit->compute_seconds, 5);
  EXPECT_EQ(limit->memory_seconds, 1);
  EXPECT_EQ(limit->seconds(), 5);
  EXPECT_EQ(limit->binding(), "compute");
}

TEST(Limit, OverlapsExponentialsWithTheMatrixUnit) {
  for (double exps : {20, 40}) {
    const auto limit = LimitOf(Work(3000, exps, 0), 50, Machine(),
                               Traffic::kReads, Ceiling::kAmx);
    ASSERT_TRUE(limit.ok()) << limit.status();
    EXPECT_EQ(limit->seconds(), exps == 20 ? 3 : 4);
  }
}

TEST(Limit, NamesTheLevelThatBinds) {
  const struct {
    double working_set, seconds;
    const char* level;
  } cases[] = {{100, 1, "L1"},  {101, 2, "L2"},   {1000, 2, "L2"},
               {1001, 4, "L3"}, {10000, 4, "L3"}, {10001, 16, "DRAM"}};
  for (const auto& c : cases) {
    const auto limit =
        LimitOf(Work(10, 0, 80), c.working_set, Machine(), Traffic::kReads);
    ASSERT_TRUE(limit.ok()) << limit.status();
    EXPECT_EQ(limit->seconds(), c.seconds) << c.level;
    EXPECT_EQ(limit->binding(), c.level);
  }
}

TEST(Limit, OfWhatWritesIsTheFasterOfReadingAndBothAtOnce) {
  Ceilings machine = Machine();
  for (const double read_write : {0.0, 30.0, 80.0}) {
    machine.per_second[static_cast<size_t>(Ceiling::kL2ReadWrite)] = read_write;
    const auto reads = LimitOf(Work(0, 0, 80), 101, machine, Traffic::kReads);
    const auto both =
        LimitOf(Work(0, 0, 80), 101, machine, Traffic::kReadWrite);
    ASSERT_TRUE(reads.ok() && both.ok());
    EXPECT_EQ(reads->seconds(), 2);
    EXPECT_EQ(both->seconds(), read_write == 80 ? 1 : 2);
    EXPECT_EQ(both->binding(), "L2");
  }
}

TEST(Limit, PassesOverLevelsThatAreNotThere) {
  Ceilings machine = Machine();
  machine.cache_bytes[2] = 0;  // no L3
  EXPECT_EQ(LevelOf(1001, machine), Ceiling::kDram);
  machine = Machine();
  machine.per_second[static_cast<size_t>(Ceiling::kL1)] = 0;
  EXPECT_EQ(LevelOf(1, machine), Ceiling::kL2);
}

TEST(Limit, SaysWhichCeilingIsMissing) {
  const auto limit =
      LimitOf(Work(1, 0, 0), 1, Machine(), Traffic::kReads, Ceiling::kBf16);
  EXPECT_EQ(limit.status().message(), "the ceiling of bf16 was not measured");
  // What is not needed may be missing.
  EXPECT_TRUE(
      LimitOf(Work(0, 1, 1), 1, Machine(), Traffic::kReads, Ceiling::kBf16)
          .ok());
  EXPECT_FALSE(
      LimitOf(Work(1, 0, 0), 1, Machine(), Traffic::kReads, Ceiling::kL1).ok());
}

}  // namespace
}  // namespace mneme
