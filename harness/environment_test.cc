// SPDX-License-Identifier: Apache-2.0

#include "harness/environment.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(Environment, FindsTheCpuModel) {
  EXPECT_EQ(CpuModel("processor : 0\nmodel\t\t: 2\nmodel name\t: A CPU  X1 \n"),
            "A CPU  X1");
  EXPECT_EQ(CpuModel(""), "unknown");
  EXPECT_EQ(CpuModel("model name without a colon"), "unknown");
}

TEST(Environment, ReadsTheCommitFromTheStatusFile) {
  const std::string path =
      std::string(std::getenv("TEST_TMPDIR")) + "/status.txt";
  std::ofstream(path) << "BUILD_TIMESTAMP 1\nMNEME_COMMIT abc123-dirty\n";
  EXPECT_EQ(DescribeEnvironment(path).commit(), "abc123-dirty");
  EXPECT_EQ(DescribeEnvironment("").commit(), "unknown");
  EXPECT_EQ(DescribeEnvironment("/no/such/file").commit(), "unknown");
}

TEST(Environment, IsFilledIn) {
  const Environment e = DescribeEnvironment("");
  EXPECT_GE(e.cores(), 1);
  EXPECT_FALSE(e.simd_target().empty());
  EXPECT_FALSE(e.compiler().empty());
  EXPECT_EQ(e.date().size(), std::string("2026-01-01T00:00:00+00:00").size());
}

}  // namespace
}  // namespace mneme
