// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/parallel.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <vector>

#include "attention/kernels/denormals.h"
#include "gtest/gtest.h"

namespace mneme::kernels {
namespace {

TEST(ThreadPoolTest, CountsTheCallingThread) {
  EXPECT_EQ(ThreadPool(1).threads(), 1);
  EXPECT_EQ(ThreadPool(4).threads(), 4);
}

TEST(ThreadPoolTest, RunsEachItemOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const size_t count : {0, 1, 2, 3, 7, 8, 9, 1000}) {
      std::vector<std::atomic<int>> calls(count);
      pool.Run(count, [&](size_t i, int) { ++calls[i]; });
      for (size_t i = 0; i < count; ++i) {
        EXPECT_EQ(calls[i], 1)
            << i << " of " << count << ", " << threads << " threads";
      }
    }
  }
}

// Whoever runs an item, it gives the same result.
TEST(ThreadPoolTest, WorkersFlushDenormalsIfTheCallerDoes) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads);
  const auto flushing = [&] {
    std::atomic<int> arrived{0}, flushing{0};
    pool.Run(kThreads, [&](size_t, int) {
      flushing += FlushesDenormals();
      for (++arrived; arrived < kThreads;) std::this_thread::yield();
    });
    return flushing.load();
  };
  EXPECT_EQ(flushing(), 0);
  {
    const ScopedFlushDenormals flush;
    EXPECT_EQ(flushing(), FlushesDenormals() ? kThreads : 0);
  }
  EXPECT_EQ(flushing(), 0);
}

// Writes without synchronisation: a worker number shared by two concurrent
// calls, or a Run that returns too early, is a data race that the thread
// sanitizer and, mostly, the sum notices.
TEST(ThreadPoolTest, WorkersOwnTheirScratchAndRunSeesAllOfIt) {
  ThreadPool pool(4);
  size_t expected = 0;
  std::vector<size_t> scratch(pool.threads(), 0);
  for (size_t count = 0; count < 400; ++count) {
    pool.Run(count, [&](size_t i, int worker) {
      ASSERT_GE(worker, 0);
      ASSERT_LT(worker, 4);
      scratch[worker] += i;
    });
    for (size_t i = 0; i < count; ++i) expected += i;
    size_t sum = 0;
    for (const size_t part : scratch) sum += part;
    ASSERT_EQ(sum, expected) << count;
  }
}

// Time for idle workers to fall asleep. Nothing fails if they do not.
void LetWorkersSleep() {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

TEST(ThreadPoolTest, ItemsRunConcurrentlyOnWokenWorkers) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads);
  LetWorkersSleep();
  std::mutex mutex;
  std::condition_variable all_here;
  int here = 0;
  std::set<std::thread::id> ids;
  std::set<int> workers;
  // Each item waits for the others, so each needs a thread of its own.
  pool.Run(kThreads, [&](size_t, int worker) {
    std::unique_lock<std::mutex> lock(mutex);
    ids.insert(std::this_thread::get_id());
    workers.insert(worker);
    if (++here == kThreads) all_here.notify_all();
    all_here.wait(lock, [&] { return here == kThreads; });
  });
  EXPECT_EQ(ids.size(), size_t{kThreads});
  EXPECT_EQ(ids.count(std::this_thread::get_id()), size_t{1});
  EXPECT_EQ(workers, (std::set<int>{0, 1, 2}));
}

TEST(ThreadPoolTest, CanBeDestroyedUnusedAsleepAndRightAfterUse) {
  {
    ThreadPool asleep(3);
    LetWorkersSleep();
  }
  for (int repeat = 0; repeat < 50; ++repeat) {
    ThreadPool unused(3);
    auto used = std::make_unique<ThreadPool>(3);
    std::atomic<int> calls{0};
    used->Run(5, [&](size_t, int) { ++calls; });
    used.reset();
    EXPECT_EQ(calls, 5);
  }
}

TEST(ParallelForTest, WithoutAPoolRunsInOrderOnTheCallingThread) {
  std::vector<size_t> items;
  ParallelFor(nullptr, 4, [&](size_t i, int worker) {
    EXPECT_EQ(worker, 0);
    items.push_back(i);
  });
  EXPECT_EQ(items, (std::vector<size_t>{0, 1, 2, 3}));
}

TEST(ParallelForTest, WithAPoolUsesIt) {
  ThreadPool pool(2);
  std::vector<int> calls(100, 0);
  ParallelFor(&pool, calls.size(), [&](size_t i, int) { ++calls[i]; });
  EXPECT_EQ(calls, std::vector<int>(100, 1));
}

TEST(ThreadPool, AnExceptionOnAnyThreadReachesTheCaller) {
  ThreadPool pool(3);
  for (size_t thrower : {size_t{0}, size_t{50}, size_t{99}}) {
    EXPECT_THROW(pool.Run(100,
                          [&](size_t i, int) {
                            if (i == thrower) throw std::bad_alloc();
                          }),
                 std::bad_alloc);
  }
  std::atomic<int> count{0};
  pool.Run(100, [&](size_t, int) { ++count; });
  EXPECT_EQ(count, 100) << "the pool works on";
}

}  // namespace
}  // namespace mneme::kernels
