// SPDX-License-Identifier: Apache-2.0

#include "attention/kernels/parallel.h"

#include <atomic>
#include <cassert>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "attention/kernels/denormals.h"

namespace mneme::kernels {
namespace {

// A worker looks this often for the next job before it sleeps. Jobs of a
// training step follow each other within microseconds, and waking a sleeper
// takes tens of them; yielding leaves the core to whoever can use it.
constexpr int kLooksBeforeSleep = 100;

}  // namespace

// One job at a time. The mutex guards everything but the atomics; a job's task
// and count do not change while any worker is busy with it.
struct ThreadPool::Shared {
  std::mutex mutex;
  std::condition_variable posted;  // job or stop changed
  std::condition_variable idle;    // busy became 0

  std::atomic<uint64_t> job{0};  // number of the last job posted
  bool open = false;             // more workers may join it
  bool stop = false;
  int busy = 0;  // workers that have joined it and not finished

  const std::function<void(size_t, int)>* task = nullptr;
  size_t count = 0;
  bool flush_denormals = false;  // as who posted the job does
  std::atomic<size_t> next{0};   // index that nobody has taken

  std::vector<std::thread> workers;

  std::exception_ptr failure;  // the first one of this job

  // Runs items until none is left. An exception (a worker may run out of
  // memory) ends the job early; Run throws it again.
  void TakeItems(int worker) {
    try {
      for (size_t i;
           (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
        (*task)(i, worker);
      }
    } catch (...) {
      next = count;
      const std::lock_guard<std::mutex> lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
    }
  }

  void Work(int worker) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex);
    while (!stop) {
      if (open && job != seen) {
        seen = job;
        ++busy;
        const bool flush = flush_denormals;
        lock.unlock();
        if (flush) {
          const ScopedFlushDenormals scope;
          TakeItems(worker);
        } else {
          TakeItems(worker);
        }
        lock.lock();
        if (--busy == 0) idle.notify_one();
        continue;
      }
      seen = job;  // closed: all its items are taken
      lock.unlock();
      for (int look = 0; look < kLooksBeforeSleep && job == seen; ++look) {
        std::this_thread::yield();
      }
      lock.lock();
      posted.wait(lock, [&] { return stop || job != seen; });
    }
  }
};

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>()) {
  for (int worker = 1; worker < threads; ++worker) {
    shared_->workers.emplace_back(
        [shared = shared_.get(), worker] { shared->Work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->posted.notify_all();
  for (std::thread& worker : shared_->workers) worker.join();
}

int ThreadPool::threads() const {
  return static_cast<int>(shared_->workers.size()) + 1;
}

void ThreadPool::Run(size_t count,
                     const std::function<void(size_t i, int worker)>& task) {
  Shared& shared = *shared_;
  if (shared.workers.empty() || count <= 1) {
    return ParallelFor(nullptr, count, task);
  }
  {
    const std::lock_guard<std::mutex> lock(shared.mutex);
    assert(!shared.open);  // not re-entrant
    shared.task = &task;
    shared.count = count;
    shared.flush_denormals = FlushesDenormals();
    shared.next = 0;
    shared.open = true;
    ++shared.job;
  }
  shared.posted.notify_all();
  shared.TakeItems(/*worker=*/0);
  // All items are taken. Workers that are still asleep are not waited for.
  std::unique_lock<std::mutex> lock(shared.mutex);
  shared.open = false;
  shared.idle.wait(lock, [&] { return shared.busy == 0; });
  if (shared.failure != nullptr) {
    std::rethrow_exception(std::exchange(shared.failure, nullptr));
  }
}

void ParallelFor(ThreadPool* pool, size_t count,
                 const std::function<void(size_t i, int worker)>& task) {
  if (pool != nullptr) return pool->Run(count, task);
  for (size_t i = 0; i < count; ++i) task(i, 0);
}

}  // namespace mneme::kernels
