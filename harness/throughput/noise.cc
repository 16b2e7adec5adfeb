// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/noise.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "harness/throughput/system_files.h"

namespace mneme {
namespace {

// Fields of a cpu line in proc(5), of which guest times are counted twice.
constexpr size_t kTimes = 8;  // user nice system idle iowait irq softirq steal
constexpr size_t kSteal = 7;

std::vector<absl::string_view> Words(absl::string_view text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
}

// What `parse` makes of the text of a file.
template <class Parse>
auto Parsed(const std::string& path, const Parse& parse)
    -> decltype(parse(absl::string_view())) {
  const absl::optional<std::string> text = ReadSystemFile(path);
  if (!text.has_value()) return absl::nullopt;
  return parse(*text);
}

absl::optional<bool> ParseSwitch(absl::string_view text) {
  if (text == "0") return false;
  if (text == "1") return true;
  return absl::nullopt;
}

absl::optional<bool> Boost(const std::string& cpus) {
  const auto boost = Parsed(cpus + "/cpufreq/boost", ParseSwitch);
  if (boost.has_value()) return boost;
  const auto off = Parsed(cpus + "/intel_pstate/no_turbo", ParseSwitch);
  if (off.has_value()) return !*off;
  return absl::nullopt;
}

// Of the second version of control groups, or the first.
absl::optional<double> Quota(const std::string& sys) {
  const std::string groups = sys + "/fs/cgroup";
  const auto quota = Parsed(groups + "/cpu.max", ParseQuota);
  if (quota.has_value()) return quota;
  const auto part = ReadSystemFile(groups + "/cpu/cpu.cfs_quota_us");
  const auto whole = ReadSystemFile(groups + "/cpu/cpu.cfs_period_us");
  if (!part.has_value() || !whole.has_value()) return absl::nullopt;
  return ParseQuota(absl::StrCat(*part, " ", *whole));
}

absl::optional<bool> Siblings(const std::vector<int>& cpus,
                              const std::string& folder) {
  absl::optional<bool> siblings;
  for (int cpu : cpus) {
    const auto list = Parsed(
        absl::StrCat(folder, "/cpu", cpu, "/topology/thread_siblings_list"),
        ParseCpuList);
    if (!list.has_value()) continue;
    siblings = siblings.value_or(false) || list->size() > 1;
  }
  return siblings;
}

}  // namespace

absl::optional<CpuTicks> ParseCpuTicks(absl::string_view stat,
                                       const std::vector<int>& cpus) {
  absl::optional<CpuTicks> sum;
  for (absl::string_view line : absl::StrSplit(stat, '\n')) {
    const std::vector<absl::string_view> words = Words(line);
    if (words.size() <= kTimes) continue;
    absl::string_view name = words[0];
    if (!absl::ConsumePrefix(&name, "cpu")) continue;
    int cpu = 0;
    const bool wanted = cpus.empty()
                            ? name.empty()  // the line of all CPUs
                            : absl::SimpleAtoi(name, &cpu) &&
                                  std::count(cpus.begin(), cpus.end(), cpu) > 0;
    if (!wanted) continue;
    if (!sum.has_value()) sum.emplace();
    for (size_t i = 0; i < kTimes; ++i) {
      int64_t ticks = 0;
      if (!absl::SimpleAtoi(words[1 + i], &ticks)) return absl::nullopt;
      sum->all += ticks;
      if (i == kSteal) sum->stolen += ticks;
    }
  }
  return sum;
}

absl::optional<double> ParseLoad(absl::string_view loadavg) {
  const std::vector<absl::string_view> words = Words(loadavg);
  double load = 0;
  if (words.empty() || !absl::SimpleAtod(words[0], &load)) return absl::nullopt;
  return load;
}

absl::optional<bool> ParseHypervisor(absl::string_view cpuinfo) {
  for (absl::string_view line : absl::StrSplit(cpuinfo, '\n')) {
    if (!absl::StartsWith(line, "flags")) continue;
    const std::vector<absl::string_view> words = Words(line);
    return std::count(words.begin(), words.end(), "hypervisor") > 0;
  }
  return absl::nullopt;
}

absl::optional<std::string> ParseChoice(absl::string_view text) {
  const size_t begin = text.find('['), end = text.find(']');
  if (begin == absl::string_view::npos || end == absl::string_view::npos ||
      end < begin) {
    return absl::nullopt;
  }
  return std::string(text.substr(begin + 1, end - begin - 1));
}

absl::optional<double> ParseQuota(absl::string_view cpu_max) {
  const std::vector<absl::string_view> words = Words(cpu_max);
  double part = 0, whole = 0;
  if (words.size() != 2 || !absl::SimpleAtod(words[0], &part) ||
      !absl::SimpleAtod(words[1], &whole) || part <= 0 || whole <= 0) {
    return absl::nullopt;  // the first version says -1 for none
  }
  return part / whole;
}

StealWatch::StealWatch(std::vector<int> cpus, SystemFolders folders)
    : cpus_(std::move(cpus)), folders_(std::move(folders)), last_(Stolen()) {}

bool StealWatch::Moved() {
  const int64_t now = Stolen();
  return std::exchange(last_, now) != now;
}

int64_t StealWatch::Stolen() const {
  const auto ticks = Parsed(
      folders_.proc + "/stat",
      [&](absl::string_view text) { return ParseCpuTicks(text, cpus_); });
  return ticks.has_value() ? ticks->stolen : 0;
}

Noise ObserveNoise(const std::vector<int>& cpus, SystemFolders folders) {
  const std::string folder = folders.sys + "/devices/system/cpu";
  Noise noise;
  noise.ticks = Parsed(folders.proc + "/stat", [&](absl::string_view text) {
    return ParseCpuTicks(text, cpus);
  });
  noise.load = Parsed(folders.proc + "/loadavg", ParseLoad);
  noise.quota = Quota(folders.sys);
  noise.hypervisor = Parsed(folders.proc + "/cpuinfo", ParseHypervisor);
  noise.siblings = Siblings(cpus, folder);
  noise.governor = ReadSystemFile(absl::StrCat(folder, "/cpu",
                                               cpus.empty() ? 0 : cpus.front(),
                                               "/cpufreq/scaling_governor"));
  noise.boost = Boost(folder);
  noise.huge_pages = Parsed(
      folders.sys + "/kernel/mm/transparent_hugepage/enabled", ParseChoice);
  return noise;
}

}  // namespace mneme
