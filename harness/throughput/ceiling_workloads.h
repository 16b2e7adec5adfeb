// SPDX-License-Identifier: Apache-2.0
//
// The machine's ceilings as workloads, so that they are timed between the
// repetitions of the kernels that are held against them.

#ifndef MNEME_HARNESS_THROUGHPUT_CEILING_WORKLOADS_H_
#define MNEME_HARNESS_THROUGHPUT_CEILING_WORKLOADS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attention/kernels/parallel.h"
#include "harness/throughput.pb.h"
#include "harness/throughput/caches.h"
#include "harness/throughput/ceilings.h"
#include "harness/throughput/interleaved_timer.h"

namespace mneme {

class CeilingWorkloads {
 public:
  // On the calling thread, or on all of a pool's, which outlives this.
  explicit CeilingWorkloads(kernels::ThreadPool* pool);
  ~CeilingWorkloads();

  void AddTo(InterleavedTimer* timer);

  // From what that timer measured.
  Ceilings From(const std::map<std::string, Repetitions>& timed) const;
  // Whether multiply-adds or exponentials, which all limits depend on, were not
  // of one mind. Reads of shared caches hardly ever are.
  bool Noisy(const std::map<std::string, Repetitions>& timed) const;

 private:
  class Loop;
  const Caches caches_;
  const int threads_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

MachineCeilings ToMessage(const Ceilings& ceilings);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_CEILING_WORKLOADS_H_
