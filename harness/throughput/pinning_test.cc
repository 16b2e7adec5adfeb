// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/pinning.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "harness/throughput/system_files.h"

namespace mneme {
namespace {

TEST(PinnedCpus, AreTheLast) {
  EXPECT_EQ(PinnedCpus({2, 3, 5, 7}, 1), std::vector<int>({7}));
  EXPECT_EQ(PinnedCpus({2, 3, 5, 7}, 3), std::vector<int>({7, 5, 3}));
  EXPECT_EQ(PinnedCpus({2, 3}, 5), std::vector<int>({3, 2}));
  EXPECT_EQ(PinnedCpus({}, 1), std::vector<int>());
}

TEST(ScopedPinning, KeepsEachThreadOnOneCpuForAWhile) {
  const std::vector<int> cpus = AllowedCpus();
  ASSERT_FALSE(cpus.empty()) << "this system does not tell";
  constexpr int kThreads = 3;
  kernels::ThreadPool pool(kThreads);
  // Where each thread may run.
  const auto allowed = [&] {
    std::vector<std::vector<int>> of(kThreads);
    std::atomic<int> arrived{0};
    pool.Run(kThreads, [&](size_t, int worker) {
      of[worker] = AllowedCpus();
      for (++arrived; arrived < kThreads;) std::this_thread::yield();
    });
    return of;
  };
  {
    const ScopedPinning pinning(cpus, &pool);
    const auto pinned = allowed();
    for (int worker = 0; worker < kThreads; ++worker) {
      const size_t from_last = worker % cpus.size();
      EXPECT_EQ(pinned[worker],
                std::vector<int>({cpus[cpus.size() - 1 - from_last]}));
    }
  }
  for (const auto& of : allowed()) EXPECT_EQ(of, cpus);
}

TEST(ScopedPinning, PinsTheCallingThreadAlone) {
  const std::vector<int> cpus = AllowedCpus();
  ASSERT_FALSE(cpus.empty()) << "this system does not tell";
  {
    const ScopedPinning pinning(cpus, nullptr);
    EXPECT_EQ(AllowedCpus(), std::vector<int>({cpus.back()}));
  }
  EXPECT_EQ(AllowedCpus(), cpus);
}

TEST(ScopedPinning, DoesNothingWithoutCpus) {
  const std::vector<int> cpus = AllowedCpus();
  const ScopedPinning pinning({}, nullptr);
  EXPECT_EQ(AllowedCpus(), cpus);
}

}  // namespace
}  // namespace mneme
