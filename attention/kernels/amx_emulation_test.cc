// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/amx_emulation.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "attention/kernels/amx.h"
#include "gtest/gtest.h"

#if MNEME_AMX

#include <signal.h>
#include <ucontext.h>

namespace mneme::kernels {
namespace {

void Configure(const AmxConfig& config) {
  asm volatile("ldtilecfg %0" ::"m"(config));
}

// All forms of addresses, in hardware, too.
TEST(AmxEmulationTest, FindsOperands) {
  const ScopedAmx amx;
  AmxRegisters::Begin();
  // Far enough on both sides for what is below.
  std::vector<uint32_t> from(1 << 14), to(1 << 14);
  for (size_t i = 0; i < from.size(); ++i) from[i] = i;
  char* const begin = reinterpret_cast<char*>(from.data());
  const auto* const middle = begin + from.size() * 2;

  // What tile 1 was loaded with: rows of 64 bytes, `stride` bytes apart.
  const auto expect = [&](const char* at, int64_t stride) {
    std::vector<uint32_t> tile(16 * 16), expected;
    AmxRegisters::Store<1>(tile.data(), 64);
    for (int r = 0; r < 16; ++r) {
      const auto* row = reinterpret_cast<const uint32_t*>(at + r * stride);
      expected.insert(expected.end(), row, row + 16);
    }
    EXPECT_EQ(tile, expected) << at - middle << ", stride " << stride;
    AmxRegisters::Zero<1>();
  };
#define MNEME_LOAD(operand, base, index, stride, offset)                       \
  asm volatile("mov %0, %%" base "\n mov %1, %%" index "\n tileloadd " operand \
               ", %%tmm1" ::"r"(middle),                                       \
               "r"(int64_t{68})                                                \
               : base, index, "memory");                                       \
  expect(middle + (offset), stride);
  MNEME_LOAD("(%%rax,%%rcx,1)", "rax", "rcx", 68, 0)
  MNEME_LOAD("(%%rdx,%%rsi,2)", "rdx", "rsi", 136, 0)
  MNEME_LOAD("(%%rdi,%%rbx,4)", "rdi", "rbx", 272, 0)
  MNEME_LOAD("8(%%r8,%%r9,8)", "r8", "r9", 544, 8)
  MNEME_LOAD("-128(%%r10,%%r11,1)", "r10", "r11", 68, -128)
  MNEME_LOAD("128(%%r12,%%rax,1)", "r12", "rax", 68, 128)
  MNEME_LOAD("-4096(%%r13,%%r12,2)", "r13", "r12", 136, -4096)
  MNEME_LOAD("(%%r13,%%r14,1)", "r13", "r14", 68, 0)
  MNEME_LOAD("(%%r14,%%r15,1)", "r14", "r15", 68, 0)
  MNEME_LOAD("(%%r15,%%r13,1)", "r15", "r13", 68, 0)
  // No index: all rows are the first.
  MNEME_LOAD("4(%%rsi)", "rsi", "rcx", 0, 4)
  MNEME_LOAD("(%%r12)", "r12", "rcx", 0, 0)
#undef MNEME_LOAD
  // A stride that is negative.
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm1" ::"r"(middle), "r"(int64_t{-64})
               : "memory");
  expect(middle, -64);

  // The other operands.
  AmxRegisters::Load<7>(middle, 64);
  AmxRegisters::Store<7>(to.data(), 128);
  for (int i = 0; i < 16 * 32; ++i) {
    ASSERT_EQ(to[i],
              i % 32 < 16 ? from[from.size() / 2 + i / 32 * 16 + i % 32] : 0);
  }
  AmxRegisters::End();
}

// Rows and bytes that are not configured are not touched.
TEST(AmxEmulationTest, TransfersWhatIsConfigured) {
  const ScopedAmx amx;
  AmxConfig config;
  config.rows[2] = 3;
  config.row_bytes[2] = 20;
  Configure(config);
  std::vector<uint32_t> from(16 * 16, 7), to(16 * 16, 1);
  AmxRegisters::Load<2>(from.data(), 64);
  AmxRegisters::Store<2>(to.data(), 64);
  AmxRegisters::End();
  for (int i = 0; i < 16 * 16; ++i) {
    EXPECT_EQ(to[i], i / 16 < 3 && i % 16 < 5 ? 7 : 1) << i;
  }
}

// A configuration from anywhere.
const AmxConfig global_config;

TEST(AmxEmulationTest, ReadsConfigurationsAtAnyAddress) {
  ScopedAmx amx;
  const AmxConfig configs[2];
  const int64_t index = -16;
  asm volatile("ldtilecfg (%0)" ::"r"(configs), "m"(configs));
  asm volatile("ldtilecfg 64(%0)" ::"r"(configs), "m"(configs));
  asm volatile("ldtilecfg 64(%0,%1,4)" ::"r"(configs), "r"(index),
               "m"(configs));
  asm volatile("ldtilecfg (,%0,1)" ::"r"(configs), "m"(configs));
  asm volatile("ldtilecfg %0" ::"m"(global_config));
  asm volatile("ldtilecfg %0" ::"m"(configs[1]));
  AmxRegisters::Zero<7>();
  AmxRegisters::End();
  EXPECT_EQ(amx.Executed(AmxOperation::kConfigure), amx.emulated() ? 6 : 0);
}

// --- What a CPU refuses; it would end the process ---

std::string Error(const std::function<void()>& run) {
  ScopedAmx amx;
  run();
  // Whatever follows a failure is not done.
  AmxRegisters::End();
  return amx.TakeError();
}

std::string ErrorOfConfig(const std::function<void(AmxConfig*)>& change) {
  return Error([&] {
    AmxConfig config;
    change(&config);
    Configure(config);
  });
}

// Tile 0 += tile 1 times tile 2.
std::string ErrorOfDot(const std::function<void(AmxConfig*)>& change) {
  return Error([&] {
    AmxConfig config;
    change(&config);
    Configure(config);
    AmxRegisters::Dot<0, 1, 2>();
  });
}

class AmxRefusalTest : public testing::Test {
 protected:
  void SetUp() override {
    if (HasAmxBf16()) GTEST_SKIP() << "not run, only emulated: refusals";
  }
};

TEST_F(AmxRefusalTest, NeedsAConfigurationOnEachThread) {
  EXPECT_EQ(Error([] { AmxRegisters::Zero<0>(); }),
            "tilezero: no configuration is loaded on this thread");
  EXPECT_EQ(Error([] {
              AmxRegisters::Begin();
              AmxRegisters::End();
              AmxRegisters::Dot<0, 1, 2>();
            }),
            "tdpbf16ps: no configuration is loaded on this thread");
  EXPECT_EQ(Error([] {
              AmxRegisters::Begin();
              std::thread([] {
                char row[64];
                AmxRegisters::Load<0>(row, 0);
              }).join();
            }),
            "tileloadd: no configuration is loaded on this thread");
  EXPECT_EQ(Error([] { AmxRegisters::Begin(); }), "");
}

TEST_F(AmxRefusalTest, NeedsAPossibleConfiguration) {
  EXPECT_EQ(ErrorOfConfig([](AmxConfig*) {}), "");
  EXPECT_EQ(ErrorOfConfig([](AmxConfig* c) { c->palette = 2; }),
            "ldtilecfg: no such palette");
  EXPECT_EQ(ErrorOfConfig([](AmxConfig* c) { c->reserved[13] = 1; }),
            "ldtilecfg: a reserved byte of the configuration is not zero");
  EXPECT_EQ(ErrorOfConfig([](AmxConfig* c) { c->rows[8] = 16; }),
            "ldtilecfg: a ninth tile is configured");
  EXPECT_EQ(ErrorOfConfig([](AmxConfig* c) { c->rows[3] = 17; }),
            "ldtilecfg: a tile has more than 16 rows");
  EXPECT_EQ(ErrorOfConfig([](AmxConfig* c) { c->row_bytes[3] = 65; }),
            "ldtilecfg: a row has more than 64 bytes");
  EXPECT_EQ(ErrorOfConfig([](AmxConfig* c) { c->row_bytes[3] = 0; }),
            "ldtilecfg: a tile has rows without bytes, or bytes without rows");
}

TEST_F(AmxRefusalTest, NeedsOperandsThatFit) {
  EXPECT_EQ(ErrorOfDot([](AmxConfig*) {}), "");
  EXPECT_EQ(ErrorOfDot([](AmxConfig* c) { c->rows[1] = 15; }),
            "tdpbf16ps: the sum has not as many rows as A");
  EXPECT_EQ(ErrorOfDot([](AmxConfig* c) { c->row_bytes[0] = 32; }),
            "tdpbf16ps: the sum's rows are not as B's");
  EXPECT_EQ(ErrorOfDot([](AmxConfig* c) { c->rows[2] = 8; }),
            "tdpbf16ps: A has not as many pairs as B rows");
  EXPECT_EQ(ErrorOfDot([](AmxConfig* c) { c->row_bytes[1] = 63; }),
            "tdpbf16ps: a row is not whole numbers");
  EXPECT_EQ(ErrorOfDot([](AmxConfig* c) { c->rows[2] = c->row_bytes[2] = 0; }),
            "tdpbf16ps: the configuration has no such tile");
  EXPECT_EQ(Error([] {
              AmxRegisters::Begin();
              // tdpbf16ps %tmm4, %tmm4, %tmm3, which assemblers refuse, too.
              asm volatile(".byte 0xC4, 0xE2, 0x5A, 0x5C, 0xDC");
            }),
            "tdpbf16ps: two operands are the same tile");
  EXPECT_EQ(Error([] {
              AmxConfig config;
              config.start_row = 16;
              Configure(config);
              char row[64];
              AmxRegisters::Load<0>(row, 0);
            }),
            "tileloadd: start_row is not in the tile");
}

// --- What is not AMX ---

int others = 0;

TEST(AmxEmulationTest, LeavesOtherInstructionsToOthers) {
  struct sigaction action = {}, before;
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    ++others;
    constexpr int kLength = 2;  // of ud2
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += kLength;
  };
  ASSERT_EQ(sigaction(SIGILL, &action, &before), 0);
  {
    const ScopedAmx amx;
    asm volatile("ud2");
    EXPECT_EQ(others, 1);
  }
  asm volatile("ud2");
  EXPECT_EQ(others, 2);
  ASSERT_EQ(sigaction(SIGILL, &before, nullptr), 0);
}

TEST(AmxEmulationTest, EndsWithItsScope) {
  const bool has = HasAmxBf16();
  {
    const ScopedAmx amx;
    EXPECT_TRUE(HasAmxBf16());
    EXPECT_EQ(amx.emulated(), !has);
  }
  EXPECT_EQ(HasAmxBf16(), has);
}

}  // namespace
}  // namespace mneme::kernels

#else

TEST(AmxEmulationTest, NeedsX86AndLinux) {
  std::cout << "not run, no support: amx\n";
}

#endif  // MNEME_AMX
