// SPDX-License-Identifier: Apache-2.0
//
// What makes a timing on this machine untrustworthy, as far as the kernel
// tells: other guests, other processes, clocks that change. What it does not
// tell is nullopt, "unknown" to a person, and never an error.

#ifndef MNEME_HARNESS_THROUGHPUT_NOISE_H_
#define MNEME_HARNESS_THROUGHPUT_NOISE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace mneme {

// Where /proc and /sys are. Tests have their own.
struct SystemFolders {
  std::string proc = "/proc";
  std::string sys = "/sys";
};

// Time in the unit of /proc/stat, mostly 10 ms, since the machine started.
struct CpuTicks {
  int64_t all = 0;
  int64_t stolen = 0;  // a CPU had work, and the hypervisor ran somebody else
};

// Sums over the given CPUs, over all of them if none is given, from the text of
// /proc/stat.
absl::optional<CpuTicks> ParseCpuTicks(absl::string_view stat,
                                       const std::vector<int>& cpus);

// Tells repetitions that had the CPU to themselves from those that had not:
//
//   StealWatch watch(AllowedCpus());
//   do { ...time a repetition... } while (watch.Moved());
//
// Steal time moves in ticks, so a repetition should last a few of them, or
// several be judged together. Where it is not counted nothing moves.
class StealWatch {
 public:
  explicit StealWatch(std::vector<int> cpus, SystemFolders folders = {});

  // Whether time was stolen since the last call, or since construction.
  bool Moved();

 private:
  int64_t Stolen() const;

  const std::vector<int> cpus_;
  const SystemFolders folders_;
  int64_t last_;
};

// The machine as it is now.
struct Noise {
  absl::optional<CpuTicks> ticks;          // of its CPUs
  absl::optional<double> load;             // average of the last minute
  absl::optional<double> quota;            // CPUs that a control group grants
  absl::optional<bool> hypervisor;         // this is a virtual machine
  absl::optional<bool> siblings;           // one of its CPUs shares a core
  absl::optional<std::string> governor;    // of frequencies
  absl::optional<bool> boost;              // beyond the nominal frequency
  absl::optional<std::string> huge_pages;  // "always", "madvise", "never"
};
// To a thread that may run on these CPUs.
Noise ObserveNoise(const std::vector<int>& cpus, SystemFolders folders = {});

// One line of a report about Noise.
struct Remark {
  enum class Verdict { kQuiet, kNoisy, kUnknown };
  std::string name;   // "steal time"
  std::string value;  // "0.2% of the time since boot"; "unknown"
  Verdict verdict = Verdict::kUnknown;
  std::string advice;  // what to do about it; empty unless noisy
};
std::vector<Remark> RemarksOn(const Noise& noise);

// --- Pieces, for tests ---

// 2.0 of "2.0 1.3 0.9 1/92 15707".
absl::optional<double> ParseLoad(absl::string_view loadavg);

// Whether the flags in the text of /proc/cpuinfo say so; nullopt without flags,
// as on other architectures than x86.
absl::optional<bool> ParseHypervisor(absl::string_view cpuinfo);

// "madvise" of "always [madvise] never".
absl::optional<std::string> ParseChoice(absl::string_view text);

// CPUs of "150000 100000", which is 1.5, in cpu.max; nullopt for "max ...".
absl::optional<double> ParseQuota(absl::string_view cpu_max);

}  // namespace mneme

#endif  // MNEME_HARNESS_THROUGHPUT_NOISE_H_
