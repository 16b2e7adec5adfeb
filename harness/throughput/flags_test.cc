// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/flags.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

absl::StatusOr<ThroughputFlags> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "throughput");
  return ParseThroughputFlags(static_cast<int>(arguments.size()),
                              arguments.data());
}

std::string ErrorOf(const std::vector<const char*>& arguments) {
  const auto flags = Parse(arguments);
  EXPECT_TRUE(absl::IsInvalidArgument(flags.status()) ||
              absl::IsNotFound(flags.status()))
      << flags.status();
  return std::string(flags.status().message());
}

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ThroughputFlagsTest, Defaults) {
  const auto flags = Parse({});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_THAT(flags->variants, testing::Contains("softmax"));
  EXPECT_EQ(flags->request.selection.phases.size(), 4);
  EXPECT_TRUE(flags->request.selection.shapes.empty());
  EXPECT_THAT(flags->request.selection.threads, ElementsAre(1));
  EXPECT_EQ(flags->request.timer.repetitions, 9);
}

TEST(ThroughputFlagsTest, Lists) {
  const auto flags =
      Parse({"--variants=softmax", "--phases=decode,train", "--threads=1,2",
             "--shapes=1x2048x8x64,fla", "--set", "window=8", "--set=a=b"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_THAT(flags->request.selection.phases,
              ElementsAre(Phase::kDecode, Phase::kTrain));
  EXPECT_EQ(flags->request.selection.shapes.size(), 3);
  EXPECT_THAT(flags->request.selection.threads, ElementsAre(1, 2));
  EXPECT_EQ(flags->request.set.size(), 2);
}

TEST(ThroughputFlagsTest, GoogleBenchmarksFlags) {
  const auto flags =
      Parse({"--benchmark_filter=softmax/.*", "--benchmark_repetitions=3",
             "--benchmark_min_time=0.5", "--benchmark_format=csv",
             "--benchmark_counters_tabular=true"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->request.selection.filter, "softmax/.*");
  EXPECT_EQ(flags->request.timer.repetitions, 3);
  EXPECT_EQ(flags->request.timer.min_seconds, 0.5);
  EXPECT_TRUE(flags->benchmark_output);
  EXPECT_THAT(flags->benchmark,
              ElementsAre("throughput", "--benchmark_format=csv",
                          "--benchmark_counters_tabular=true"));
}

TEST(ThroughputFlagsTest, MistakesAreNamed) {
  EXPECT_THAT(ErrorOf({"--variant=softmax"}), HasSubstr("--variants"));
  EXPECT_THAT(ErrorOf({"--variants=softmx"}), HasSubstr("softmax"));
  EXPECT_THAT(ErrorOf({"--phases=refill"}), HasSubstr("prefill"));
  EXPECT_THAT(ErrorOf({"--shapes=1x2"}), HasSubstr("four sizes"));
  EXPECT_THAT(ErrorOf({"--threads=0"}), HasSubstr("--threads"));
  EXPECT_THAT(ErrorOf({"--form=chunk"}), HasSubstr("chunked"));
  EXPECT_THAT(ErrorOf({"--contenders=onednn2"}), HasSubstr("mneme"));
  EXPECT_THAT(ErrorOf({"--benchmark_repetitions=0"}), HasSubstr("repetitions"));
  for (const char* seconds : {"0", "-1", "nan", "inf", "0.1s"}) {
    const std::string flag = std::string("--benchmark_min_time=") + seconds;
    EXPECT_THAT(ErrorOf({flag.c_str()}), HasSubstr(flag));
  }
  EXPECT_THAT(ErrorOf({"--benchmark_format=xml"}), HasSubstr("json or csv"));
  EXPECT_THAT(ErrorOf({"--benchmark_out_format=csv"}), HasSubstr("json"));
  EXPECT_THAT(ErrorOf({"--json=-", "--benchmark_format=json"}),
              HasSubstr("--benchmark_format"));
}

}  // namespace
}  // namespace mneme
