// SPDX-License-Identifier: Apache-2.0

// One call into each dependency, so that a package that is missing or does
// not link fails here, under its own name.

#include <benchmark/benchmark.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/aligned_allocator.h>
#include <hwy/highway.h>
#include <hwy/targets.h>

#include <CLI/CLI.hpp>
#include <boost/math/distributions/normal.hpp>
#include <complex>
#include <cstdlib>
#include <fstream>
#include <kainjow/mustache.hpp>
#include <kissfft/kissfft.hh>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "third_party/smoke.pb.h"

ABSL_FLAG(int, width, 8, "A flag.");

namespace mneme {
namespace {

TEST(Smoke, AbslStatus) {
  const absl::StatusOr<int> missing = absl::NotFoundError("no such variant");
  EXPECT_EQ(missing.status().ToString(), "NOT_FOUND: no such variant");
}

TEST(Smoke, AbslStringsAndContainers) {
  absl::flat_hash_map<std::string, int> lengths;
  lengths[absl::StrCat("softmax", 2)] = 8;
  EXPECT_EQ(absl::StrFormat("%d", lengths["softmax2"]), "8");
}

TEST(Smoke, AbslTimeAndMutex) {
  absl::Mutex mutex;
  const absl::MutexLock lock(&mutex);
  EXPECT_LT(absl::UnixEpoch(), absl::Now());
}

TEST(Smoke, AbslFlags) {
  const char* argv[] = {"program", "--width=16", "rest"};
  const std::vector<char*> rest =
      absl::ParseCommandLine(3, const_cast<char**>(argv));
  EXPECT_EQ(absl::GetFlag(FLAGS_width), 16);
  EXPECT_THAT(rest, testing::ElementsAre(testing::StrEq("program"),
                                         testing::StrEq("rest")));
}

TEST(Smoke, HighwayAddsVectors) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  const auto sum = hwy::AllocateAligned<float>(hn::Lanes(d));
  ASSERT_NE(sum.get(), nullptr);
  hn::Store(hn::Add(hn::Set(d, 1.5f), hn::Set(d, 2.0f)), d, sum.get());
  EXPECT_EQ(sum[hn::Lanes(d) - 1], 3.5f);
}

// Calls into the library, and not only its headers.
TEST(Smoke, HighwayKnowsThisCpu) {
  EXPECT_NE(hwy::SupportedTargets() & HWY_STATIC_TARGET, 0);
}

TEST(Smoke, ProtobufRoundTrip) {
  smoke::Whole whole;
  whole.mutable_part()->set_name("delta rule");
  whole.mutable_part()->add_values(0.1);
  whole.mutable_when()->set_seconds(7);
  smoke::Whole again;
  ASSERT_TRUE(again.ParseFromString(whole.SerializeAsString()));
  EXPECT_EQ(again.part().name(), "delta rule");
  EXPECT_EQ(again.part().values(0), 0.1);
  EXPECT_EQ(again.when().seconds(), 7);
}

TEST(Smoke, Json) {
  EXPECT_EQ(nlohmann::json::parse(R"({"seeds": [1, 2]})")["seeds"][1], 2);
}

TEST(Smoke, Mustache) {
  kainjow::mustache::mustache page("<td>{{name}}</td>");
  EXPECT_EQ(page.render({"name", "a<b"}), "<td>a&lt;b</td>");
}

TEST(Smoke, Cli11) {
  CLI::App app;
  int seeds = 0;
  app.add_option("--seeds", seeds);
  app.parse("--seeds 5");
  EXPECT_EQ(seeds, 5);
}

TEST(Smoke, BoostMath) {
  EXPECT_NEAR(boost::math::quantile(boost::math::normal(), 0.975), 1.96, 1e-3);
}

TEST(Smoke, KissFft) {
  const std::vector<std::complex<double>> impulse = {1, 0, 0, 0};
  std::vector<std::complex<double>> spectrum(4);
  kissfft<double>(4, /*inverse=*/false)
      .transform(impulse.data(), spectrum.data());
  EXPECT_EQ(spectrum, std::vector<std::complex<double>>(4, 1));
}

TEST(Smoke, Benchmark) { EXPECT_FALSE(benchmark::CPUInfo::Get().num_cpus < 1); }

TEST(Smoke, VegaIsInTheRunfiles) {
  const char* runfiles = std::getenv("TEST_SRCDIR");
  ASSERT_NE(runfiles, nullptr);
  std::ifstream script(absl::StrCat(runfiles, "/vega/vega-view.min.js"));
  EXPECT_TRUE(script.good());
}

}  // namespace
}  // namespace mneme
