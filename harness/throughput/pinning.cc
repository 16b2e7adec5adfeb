// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/pinning.h"

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

ScopedPinning::ScopedPinning(const std::vector<int>& cpus,
                             kernels::ThreadPool* pool)
    : cpus_(cpus), pool_(pool) {
  if (cpus_.empty()) return;
  OnEachThread(pool_, [&](int worker) {
    const size_t from_last = static_cast<size_t>(worker) % cpus_.size();
    AllowCpus({cpus_[cpus_.size() - 1 - from_last]});
  });
}

ScopedPinning::~ScopedPinning() {
  if (cpus_.empty()) return;
  OnEachThread(pool_, [&](int) { AllowCpus(cpus_); });
}

}  // namespace mneme
