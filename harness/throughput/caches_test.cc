// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/caches.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "harness/throughput/system_files.h"

namespace mneme {
namespace {

TEST(SystemFiles, ParsesListsOfCpus) {
  EXPECT_EQ(ParseCpuList("0"), std::vector<int>({0}));
  EXPECT_EQ(ParseCpuList("0-2,5,7-8"), std::vector<int>({0, 1, 2, 5, 7, 8}));
  for (const char* bad : {"", "x", "3-1", "-1", "1-", "0-99999999", "1,,2"}) {
    EXPECT_FALSE(ParseCpuList(bad).has_value()) << bad;
  }
}

TEST(SystemFiles, ParsesSizes) {
  EXPECT_EQ(ParseByteSize("48K"), 49152);
  EXPECT_EQ(ParseByteSize("2M"), 2097152);
  EXPECT_EQ(ParseByteSize("1G"), 1073741824);
  EXPECT_EQ(ParseByteSize("7"), 7);
  for (const char* bad : {"", "K", "-1K", "4X", "9223372036854775807G"}) {
    EXPECT_FALSE(ParseByteSize(bad).has_value()) << bad;
  }
}

TEST(SystemFiles, FindsAvailableMemory) {
  EXPECT_EQ(ParseAvailableMemory(
                "MemTotal:  24000 kB\nMemAvailable:    1024 kB\nX: 1 kB\n"),
            1048576);
  for (const char* bad : {"", "MemAvailable:", "MemAvailable: x kB"}) {
    EXPECT_FALSE(ParseAvailableMemory(bad).has_value()) << bad;
  }
}

TEST(SystemFiles, ReadsWhatIsThere) {
  const std::string folder = std::getenv("TEST_TMPDIR");
  std::ofstream(folder + "/file") << "text\n";
  EXPECT_EQ(ReadSystemFile(folder + "/file"), "text");
  EXPECT_FALSE(ReadSystemFile(folder + "/none").has_value());
  EXPECT_FALSE(ReadSystemFile(folder).has_value());
}

void WriteCache(const std::string& folder, int index, const char* type,
                const char* level, const char* size, const char* shared) {
  const std::string path = absl::StrCat(folder, "/cpu3/cache/index", index);
  std::filesystem::create_directories(path);
  std::ofstream(path + "/type") << type << "\n";
  std::ofstream(path + "/level") << level << "\n";
  std::ofstream(path + "/size") << size << "\n";
  std::ofstream(path + "/shared_cpu_list") << shared << "\n";
}

TEST(Caches, AreReadFromTheirFolders) {
  const std::string cpus = std::string(std::getenv("TEST_TMPDIR")) + "/cpus";
  WriteCache(cpus, 0, "Data", "1", "48K", "3,7");
  WriteCache(cpus, 1, "Instruction", "1", "32K", "3,7");
  WriteCache(cpus, 2, "Unified", "2", "1M", "3,7");
  WriteCache(cpus, 3, "Unified", "3", "32M", "0-7");
  WriteCache(cpus, 4, "Unified", "4", "128M", "0-7");  // not known here
  const Caches caches = DetectCaches(3, cpus);
  EXPECT_EQ(caches[0].bytes, 48 << 10);
  EXPECT_EQ(caches[0].cpus, 2);
  EXPECT_EQ(caches[1].bytes, 1 << 20);
  EXPECT_EQ(caches[2].bytes, 32 << 20);
  EXPECT_EQ(caches[2].cpus, 8);
}

TEST(Caches, AreFoundSomehowWithoutFolders) {
  for (const Cache& cache : DetectCaches(0, "/no/such/folder")) {
    EXPECT_GE(cache.bytes, 0);
    EXPECT_GE(cache.cpus, 1);
  }
}

TEST(Caches, AddUpOverThreads) {
  const Cache shared = {100, 4}, own = {100, 1};
  EXPECT_EQ(shared.BytesOf(1), 100);
  EXPECT_EQ(shared.BytesOf(4), 100);
  EXPECT_EQ(shared.BytesOf(5), 200);
  EXPECT_EQ(own.BytesOf(5), 500);
}

}  // namespace
}  // namespace mneme
