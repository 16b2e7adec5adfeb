// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/caches.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "harness/throughput/system_files.h"

namespace mneme {
namespace {

// A CPU has four or five.
constexpr int kMostIndexes = 16;

Caches FromSysfs(const std::string& folder) {
  Caches caches;
  for (int index = 0; index < kMostIndexes; ++index) {
    const std::string prefix = absl::StrCat(folder, "/index", index, "/");
    const auto type = ReadSystemFile(prefix + "type");
    if (!type.has_value()) break;
    const auto level = ReadSystemFile(prefix + "level");
    const auto size = ReadSystemFile(prefix + "size");
    const auto shared = ReadSystemFile(prefix + "shared_cpu_list");
    int number = 0;
    if (*type == "Instruction" || !level.has_value() || !size.has_value() ||
        !absl::SimpleAtoi(*level, &number) || number < 1 ||
        number > static_cast<int>(caches.size())) {
      continue;
    }
    Cache& cache = caches[number - 1];
    cache.bytes = ParseByteSize(*size).value_or(0);
    if (shared.has_value()) {
      const auto cpus = ParseCpuList(*shared);
      if (cpus.has_value()) cache.cpus = static_cast<int64_t>(cpus->size());
    }
  }
  return caches;
}

int64_t Configured([[maybe_unused]] int level) {
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  constexpr int kNames[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE,
                            _SC_LEVEL3_CACHE_SIZE};
  return std::max<int64_t>(0, sysconf(kNames[level]));
#else
  return 0;
#endif
}

}  // namespace

int64_t Cache::BytesOf(int threads) const {
  return bytes * ((threads + cpus - 1) / cpus);
}

Caches DetectCaches(int cpu, const std::string& cpus) {
  Caches caches = FromSysfs(absl::StrCat(cpus, "/cpu", cpu, "/cache"));
  if (caches[0].bytes > 0) return caches;
  for (size_t level = 0; level < caches.size(); ++level) {
    caches[level] = {Configured(static_cast<int>(level)), 1};
  }
  // The last level is the one that CPUs share.
  if (caches[2].bytes > 0) {
    caches[2].cpus = std::max<int64_t>(1, sysconf(_SC_NPROCESSORS_ONLN));
  }
  return caches;
}

Caches DetectCachesHere() {
  const std::vector<int> cpus = AllowedCpus();
  return DetectCaches(cpus.empty() ? 0 : cpus.front());
}

}  // namespace mneme
