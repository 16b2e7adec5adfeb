// SPDX-License-Identifier: Apache-2.0
//
// What Noise means to a person, and what to do about it.

#include <utility>

#include "absl/strings/str_format.h"
#include "harness/throughput/noise.h"

namespace mneme {
namespace {

// Others who ran for half of the last minute still do, or have just filled the
// caches and heated the chip.
constexpr double kBusy = 0.5;

// A thousandth of the time since boot.
constexpr double kStolen = 0.001;

// Noisy or quiet; unknown where there is no value.
template <class T, class Noisy, class Show>
Remark Judge(const char* name, const absl::optional<T>& value,
             const Noisy& noisy, const Show& show, std::string advice) {
  if (!value.has_value()) {
    return {name, "unknown", Remark::Verdict::kUnknown, ""};
  }
  if (!noisy(*value)) return {name, show(*value), Remark::Verdict::kQuiet, ""};
  return {name, show(*value), Remark::Verdict::kNoisy, std::move(advice)};
}

// As it should be, or not.
Remark JudgeSwitch(const char* name, absl::optional<bool> value, bool noisy,
                   const char* on, const char* off, const char* advice) {
  return Judge(
      name, value, [=](bool v) { return v == noisy; },
      [=](bool v) { return std::string(v ? on : off); }, advice);
}

double StolenShare(const CpuTicks& ticks) {
  return ticks.all == 0 ? 0
                        : static_cast<double>(ticks.stolen) /
                              static_cast<double>(ticks.all);
}

std::string Itself(const std::string& text) { return text; }

}  // namespace

std::vector<Remark> RemarksOn(const Noise& noise) {
  std::vector<Remark> remarks = {
      JudgeSwitch("virtual machine", noise.hypervisor, true, "yes", "no",
                  "neighbours share caches, DRAM and clock; compare within one "
                  "run only"),
      Judge(
          "steal time", noise.ticks,
          [](const CpuTicks& t) { return StolenShare(t) > kStolen; },
          [](const CpuTicks& t) {
            return absl::StrFormat("%.2f%% since boot", 100 * StolenShare(t));
          },
          "drop repetitions in which it moves, or come back later"),
      Judge(
          "load", noise.load, [](double load) { return load > kBusy; },
          [](double load) { return absl::StrFormat("%.2f", load); },
          "other processes run; stop them, wait a minute"),
      JudgeSwitch("SMT", noise.siblings, true, "two threads share a core",
                  "one thread per core",
                  "leave the sibling idle, or turn it off: echo off > "
                  "/sys/devices/system/cpu/smt/control"),
      Judge(
          "governor", noise.governor,
          [](const std::string& name) { return name != "performance"; }, Itself,
          "cpupower frequency-set -g performance"),
      JudgeSwitch("boost clock", noise.boost, true, "on", "off",
                  "the clock falls as the chip warms; turn it off for figures "
                  "that repeat"),
      Judge(
          "huge pages", noise.huge_pages,
          [](const std::string& choice) { return choice == "never"; }, Itself,
          "reads of DRAM wait for page tables; echo madvise > "
          "/sys/kernel/mm/transparent_hugepage/enabled"),
  };
  // Most machines have none.
  if (noise.quota.has_value()) {
    remarks.push_back(Judge(
        "CPU quota", noise.quota, [](double) { return true; },
        [](double cpus) { return absl::StrFormat("%.2f CPUs", cpus); },
        "threads stand still when it is used up; use fewer, or lift it"));
  }
  return remarks;
}

}  // namespace mneme
