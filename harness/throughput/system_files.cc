// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/system_files.h"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace mneme {
namespace {

// More than Linux can be configured for.
constexpr int kMostCpus = 1 << 16;

}  // namespace

absl::optional<std::string> ReadSystemFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  // A file that opens and does not read, as a directory, is none either.
  if (!file || !(text << file.rdbuf())) return absl::nullopt;
  return std::string(absl::StripAsciiWhitespace(text.str()));
}

absl::optional<std::vector<int>> ParseCpuList(absl::string_view text) {
  std::vector<int> cpus;
  for (absl::string_view range : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(range, absl::MaxSplits('-', 1));
    int first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first)) return absl::nullopt;
    if (!absl::StrContains(range, '-')) {
      last = first;
    } else if (!absl::SimpleAtoi(ends.second, &last)) {
      return absl::nullopt;
    }
    if (first < 0 || last < first || last >= kMostCpus) return absl::nullopt;
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

absl::optional<int64_t> ParseByteSize(absl::string_view text) {
  int64_t unit = 1, count = 0;
  if (absl::ConsumeSuffix(&text, "K")) {
    unit = int64_t{1} << 10;
  } else if (absl::ConsumeSuffix(&text, "M")) {
    unit = int64_t{1} << 20;
  } else if (absl::ConsumeSuffix(&text, "G")) {
    unit = int64_t{1} << 30;
  }
  if (!absl::SimpleAtoi(text, &count) || count < 0 ||
      count > INT64_MAX / unit) {
    return absl::nullopt;
  }
  return count * unit;
}

absl::optional<int64_t> ParseAvailableMemory(absl::string_view meminfo) {
  for (absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    if (!absl::ConsumePrefix(&line, "MemAvailable:")) continue;
    if (!absl::ConsumeSuffix(&line, "kB")) return absl::nullopt;
    int64_t kilobytes;
    if (!absl::SimpleAtoi(line, &kilobytes)) return absl::nullopt;
    return kilobytes * 1024;
  }
  return absl::nullopt;
}

std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  // The set must be as large as the kernel's, which is not known.
  for (int size = CPU_SETSIZE; size <= kMostCpus; size *= 2) {
    cpu_set_t* const set = CPU_ALLOC(size);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(size);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; known && cpu < size; ++cpu) {
      if (CPU_ISSET_S(cpu, bytes, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (known) break;
  }
#endif
  return cpus;
}

bool AllowCpus([[maybe_unused]] const std::vector<int>& cpus) {
#if defined(__linux__)
  if (cpus.empty()) return false;
  const int size = *std::max_element(cpus.begin(), cpus.end()) + 1;
  cpu_set_t* const set = CPU_ALLOC(size);
  if (set == nullptr) return false;
  const size_t bytes = CPU_ALLOC_SIZE(size);
  CPU_ZERO_S(bytes, set);
  for (int cpu : cpus) CPU_SET_S(cpu, bytes, set);
  const bool done = sched_setaffinity(0, bytes, set) == 0;
  CPU_FREE(set);
  return done;
#else
  return false;
#endif
}

}  // namespace mneme
