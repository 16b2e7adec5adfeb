// SPDX-License-Identifier: Apache-2.0

#include "harness/peak_memory.h"

#include <fstream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace mneme {

bool ResetPeakMemory() {
  // proc(5): 5 resets the peak resident set size.
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

int64_t PeakMemoryBytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    absl::string_view text = line;
    if (!absl::ConsumePrefix(&text, "VmHWM:")) continue;
    absl::ConsumeSuffix(&text, "kB");
    int64_t kibibytes = 0;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &kibibytes)) {
      return kibibytes * 1024;
    }
  }
  return 0;
}

}  // namespace mneme
