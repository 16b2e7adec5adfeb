// SPDX-License-Identifier: Apache-2.0
//
// The sizes of the CPU's caches.

#ifndef MNEME_HARNESS_THROUGHPUT_CACHES_H_
#define MNEME_HARNESS_THROUGHPUT_CACHES_H_

#include <array>
#include <cstdint>
#include <string>

namespace mneme {

struct Cache {
  int64_t bytes = 0;  // 0: there is none, or nobody knows
  int64_t cpus = 1;   // that share it

  // What `threads` of them on as many CPUs, neighbours first, hold together.
  int64_t BytesOf(int threads) const;
};

// Data caches of one CPU: L1, L2, L3.
using Caches = std::array<Cache, 3>;

// Of the CPU `cpu`, from its folder in `cpus`; where that says nothing, from
// sysconf, which under a hypervisor may count the L3 of the whole host.
Caches DetectCaches(int cpu,
                    const std::string& cpus = "/sys/devices/system/cpu");

// Of the first CPU that this thread may run on.
Caches DetectCachesHere();

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_CACHES_H_
