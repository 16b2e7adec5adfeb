// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/noise.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using testing::Contains;
using testing::Field;
using Verdict = Remark::Verdict;

constexpr char kStat[] =
    "cpu  10 20 30 40 50 60 70 80 90 100\n"
    "cpu0 1 2 3 4 5 6 7 8 9 10\n"
    "cpu1 100 0 0 0 0 0 0 5 0 0\n"
    "cpu10 0 0 0 0 0 0 0 1000 0 0\n"
    "intr 1 2 3 4 5 6 7 8 9 10\n";

// A machine in files below TEST_TMPDIR.
class Machine {
 public:
  explicit Machine(const std::string& name)
      : root_(std::string(std::getenv("TEST_TMPDIR")) + "/" + name) {}

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_ + "/" + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }

  SystemFolders folders() const { return {root_ + "/proc", root_ + "/sys"}; }

 private:
  const std::string root_;
};

TEST(Noise, SumsTicksOfTheGivenCpus) {
  const auto one = ParseCpuTicks(kStat, {1});
  ASSERT_TRUE(one.has_value());
  EXPECT_EQ(one->all, 105);
  EXPECT_EQ(one->stolen, 5);
  EXPECT_EQ(ParseCpuTicks(kStat, {0, 1})->stolen, 13);
  EXPECT_EQ(ParseCpuTicks(kStat, {0})->all, 36);  // guests are not told apart
  EXPECT_EQ(ParseCpuTicks(kStat, {})->stolen, 80);
  EXPECT_FALSE(ParseCpuTicks(kStat, {7}).has_value());
  EXPECT_FALSE(ParseCpuTicks("", {}).has_value());
  EXPECT_FALSE(ParseCpuTicks("cpu 1 2 3", {}).has_value());
  EXPECT_FALSE(ParseCpuTicks("cpu 1 2 3 4 5 6 7 x", {}).has_value());
}

TEST(Noise, SeesStealTimeMove) {
  Machine machine("steal");
  machine.Write("proc/stat", kStat);
  StealWatch watch({0, 1}, machine.folders());
  EXPECT_FALSE(watch.Moved());
  machine.Write("proc/stat",
                "cpu0 1 2 3 4 5 6 7 8 9 10\n"
                "cpu1 900 0 0 0 0 0 0 6 0 0\n");
  EXPECT_TRUE(watch.Moved());
  EXPECT_FALSE(watch.Moved());
  // Another CPU's, or other time than stolen, does not count.
  machine.Write("proc/stat",
                "cpu0 1 2 3 9 5 6 7 8 9 10\n"
                "cpu1 900 0 0 0 0 0 0 6 0 0\n"
                "cpu2 900 0 0 0 0 0 0 6 0 0\n");
  EXPECT_FALSE(watch.Moved());
  EXPECT_FALSE(StealWatch({0}, Machine("nothing").folders()).Moved());
}

TEST(Noise, ReadsTheLoad) {
  EXPECT_EQ(ParseLoad("2.50 1.3 0.9 1/92 15707"), 2.5);
  EXPECT_FALSE(ParseLoad("").has_value());
  EXPECT_FALSE(ParseLoad("high").has_value());
}

TEST(Noise, FindsTheHypervisor) {
  EXPECT_EQ(ParseHypervisor("model\t: 1\nflags\t\t: fpu hypervisor vme\n"),
            true);
  EXPECT_EQ(ParseHypervisor("flags : fpu nohypervisor\n"), false);
  EXPECT_FALSE(ParseHypervisor("Features : fp asimd\n").has_value());
}

TEST(Noise, ReadsChoicesAndQuotas) {
  EXPECT_EQ(ParseChoice("always [madvise] never"), "madvise");
  EXPECT_FALSE(ParseChoice("always").has_value());
  EXPECT_FALSE(ParseChoice("]always[").has_value());
  EXPECT_EQ(ParseQuota("150000 100000"), 1.5);
  EXPECT_FALSE(ParseQuota("max 100000").has_value());
  EXPECT_FALSE(ParseQuota("-1 100000").has_value());
  EXPECT_FALSE(ParseQuota("1 0").has_value());
}

TEST(Noise, ObservesANoisyMachine) {
  Machine machine("noisy");
  machine.Write("proc/stat", kStat);
  machine.Write("proc/loadavg", "1.75 0 0 1/2 3\n");
  machine.Write("proc/cpuinfo", "flags : hypervisor\n");
  machine.Write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  machine.Write("sys/kernel/mm/transparent_hugepage/enabled",
                "always madvise [never]\n");
  const std::string cpus = "sys/devices/system/cpu/";
  machine.Write(cpus + "cpu0/topology/thread_siblings_list", "0\n");
  machine.Write(cpus + "cpu1/topology/thread_siblings_list", "1,3\n");
  machine.Write(cpus + "cpu0/cpufreq/scaling_governor", "powersave\n");
  machine.Write(cpus + "intel_pstate/no_turbo", "0\n");
  const Noise noise = ObserveNoise({0, 1}, machine.folders());
  EXPECT_EQ(noise.ticks->stolen, 13);
  EXPECT_EQ(noise.load, 1.75);
  EXPECT_EQ(noise.quota, 0.5);
  EXPECT_EQ(noise.hypervisor, true);
  EXPECT_EQ(noise.siblings, true);
  EXPECT_EQ(noise.governor, "powersave");
  EXPECT_EQ(noise.boost, true);
  EXPECT_EQ(noise.huge_pages, "never");
  for (const Remark& remark : RemarksOn(noise)) {
    EXPECT_EQ(remark.verdict, Verdict::kNoisy) << remark.name;
    EXPECT_NE(remark.advice, "") << remark.name;
  }
}

TEST(Noise, ObservesAQuietMachine) {
  Machine machine("quiet");
  machine.Write("proc/stat", "cpu0 9000 0 0 0 0 0 0 1 0 0\n");
  machine.Write("proc/loadavg", "0.03 0 0 1/2 3\n");
  machine.Write("proc/cpuinfo", "flags : fpu\n");
  machine.Write("sys/fs/cgroup/cpu.max", "max 100000\n");
  machine.Write("sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n");
  const std::string cpus = "sys/devices/system/cpu/";
  machine.Write(cpus + "cpu0/topology/thread_siblings_list", "0\n");
  machine.Write(cpus + "cpu0/cpufreq/scaling_governor", "performance\n");
  machine.Write(cpus + "cpufreq/boost", "0\n");
  const auto remarks = RemarksOn(ObserveNoise({0}, machine.folders()));
  for (const Remark& remark : remarks) {
    EXPECT_EQ(remark.verdict, Verdict::kQuiet) << remark.name;
    EXPECT_EQ(remark.advice, "") << remark.name;
  }
  EXPECT_THAT(remarks, Not(Contains(Field(&Remark::name, "CPU quota"))));
}

TEST(Noise, KnowsNothingWithoutFiles) {
  for (const Remark& remark :
       RemarksOn(ObserveNoise({}, Machine("none").folders()))) {
    EXPECT_EQ(remark.verdict, Verdict::kUnknown) << remark.name;
    EXPECT_EQ(remark.value, "unknown") << remark.name;
  }
}

TEST(Noise, ReadsTheQuotaOfTheFirstControlGroups) {
  Machine machine("v1");
  machine.Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  machine.Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ObserveNoise({0}, machine.folders()).quota, 2);
}

}  // namespace
}  // namespace mneme
