// SPDX-License-Identifier: Apache-2.0
//
// A fixed set of worker threads that runs index ranges. Work items write
// disjoint outputs, so results do not depend on the number of threads or on
// which of them runs which item.

#ifndef MNEME_ATTENTION_KERNELS_PARALLEL_H_
#define MNEME_ATTENTION_KERNELS_PARALLEL_H_

#include <cstddef>
#include <functional>
#include <memory>

namespace mneme::kernels {

class ThreadPool {
 public:
  // threads >= 1 counts the calling thread; 1 starts none. Kernels need up to
  // 256 KiB of stack: glibc's threads have that, those of some others do not.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls task(i, worker) once for each i in [0, count), from the calling
  // thread and the workers, and returns when all are done. worker is in
  // [0, threads()) and two concurrent calls never share one, so it can index
  // per-thread scratch. Not re-entrant: a task must not call Run on its pool,
  // nor two threads at once. Workers flush denormals while they run tasks of a
  // caller who does (ScopedFlushDenormals). An exception from a task is thrown
  // again here, once no task runs any more; the rest of the items may be left
  // out.
  void Run(size_t count, const std::function<void(size_t i, int worker)>& task);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

// Runs serially when pool is null, otherwise on the pool.
void ParallelFor(ThreadPool* pool, size_t count,
                 const std::function<void(size_t i, int worker)>& task);

}  // namespace mneme::kernels

#endif  // MNEME_ATTENTION_KERNELS_PARALLEL_H_
