// SPDX-License-Identifier: Apache-2.0
//
// Reading what the kernel tells about the machine, in /proc and /sys. What is
// not there, or not as expected (another system, a container), is nullopt.

#ifndef MNEME_HARNESS_THROUGHPUT_SYSTEM_FILES_H_
#define MNEME_HARNESS_THROUGHPUT_SYSTEM_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace mneme {

// A whole file without the blanks around its text.
absl::optional<std::string> ReadSystemFile(const std::string& path);

// "0-2,5" is {0, 1, 2, 5}.
absl::optional<std::vector<int>> ParseCpuList(absl::string_view text);

// "48K" is 49152; also M and G, or nothing.
absl::optional<int64_t> ParseByteSize(absl::string_view text);

// Bytes that programs may still take, from the text of /proc/meminfo.
absl::optional<int64_t> ParseAvailableMemory(absl::string_view meminfo);

// CPUs that this thread may run on, in ascending order; empty if unknown.
std::vector<int> AllowedCpus();

// Lets this thread run on these CPUs alone. False if the system refuses.
bool AllowCpus(const std::vector<int>& cpus);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_SYSTEM_FILES_H_
