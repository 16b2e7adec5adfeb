// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/pinning.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>

#include "harness/throughput/system_files.h"

namespace mneme {
namespace {

// Calls body once on the calling thread and on each worker.
void OnEachThread(kernels::ThreadPool* pool,
                  const std::function<void(int worker)>& body) {
  const int threads = pool == nullptr ? 1 : pool->threads();
  std::atomic<int> arrived{0};
  kernels::ParallelFor(pool, threads, [&](size_t, int worker) {
    body(worker);
    // Whoever is done waits, and so cannot take another's item.
    for (++arrived; arrived < threads;) std::this_thread::yield();
  });
}

}  // namespace

std::vector<int> PinnedCpus(const std::vector<int>& cpus, int threads) {
  const size_t count = std::min(cpus.size(), static_cast<size_t>(threads));
  return std::vector<int>(cpus.rbegin(), cpus.rbegin() + count);
}

ScopedPinning::ScopedPinning(const std::vector<int>& cpus,
                             kernels::ThreadPool* pool)
    : cpus_(cpus), pool_(pool) {
  if (cpus_.empty()) return;
  const std::vector<int> pinned =
      PinnedCpus(cpus_, pool_ == nullptr ? 1 : pool_->threads());
  OnEachThread(pool_, [&](int worker) {
    AllowCpus({pinned[static_cast<size_t>(worker) % pinned.size()]});
  });
}

ScopedPinning::~ScopedPinning() {
  if (cpus_.empty()) return;
  OnEachThread(pool_, [&](int) { AllowCpus(cpus_); });
}

}  // namespace mneme
