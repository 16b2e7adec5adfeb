// SPDX-License-Identifier: Apache-2.0
//
// Which repetitions count, and what a workload is asked. No test here depends
// on how long anything takes.

#include "harness/throughput/interleaved_timer.h"

#include <map>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

// Says itself how long it took: what a script says, over and over again.
class Scripted : public Workload {
 public:
  explicit Scripted(std::vector<double> seconds) : script_(seconds) {}
  absl::Status Run() override {
    seconds_ = script_[runs_++ % script_.size()];
    return absl::OkStatus();
  }
  double Seconds() const override { return seconds_; }
  std::vector<Tensor> Outputs() const override { return {}; }
  int runs() const { return static_cast<int>(runs_); }

 private:
  std::vector<double> script_;
  size_t runs_ = 0;
  double seconds_ = 0;
};

// Fails unless Rewind is called at least every third run.
class Forgetful : public Workload {
 public:
  absl::Status Run() override {
    ++runs;
    return ++since_ > 3 ? absl::InternalError("ran too far") : absl::OkStatus();
  }
  int64_t RunsBeforeRewind() const override { return 3; }
  absl::Status Rewind() override {
    ++rewinds;
    since_ = 0;
    return absl::OkStatus();
  }
  std::vector<Tensor> Outputs() const override { return {}; }
  int runs = 0, rewinds = 0;

 private:
  int since_ = 3;
};

TimerOptions Quick() {
  TimerOptions options;
  options.repetitions = 3;
  options.min_seconds = 1e-3;
  return options;
}

TEST(InterleavedTimerTest, TimesEachAsOftenAsAsked) {
  Scripted a({0.5}), b({2.0});
  InterleavedTimer timer(Quick());
  timer.Add({"a", &a});
  timer.Add({"b/with/slashes", &b, /*repetitions=*/5});
  const auto timed = timer.Run();
  ASSERT_EQ(timed.size(), 2);
  EXPECT_EQ(timed.at("a").seconds, std::vector<double>({0.5, 0.5, 0.5}));
  EXPECT_EQ(timed.at("b/with/slashes").seconds, std::vector<double>(5, 2.0));
  EXPECT_EQ(timed.at("a").iterations * 3, a.runs());
  EXPECT_FALSE(timed.at("a").noisy);
  EXPECT_EQ(timed.at("a").rejected, 0);
}

TEST(InterleavedTimerTest, WhatDisagreesIsTimedAgainAndThenSaidToBeNoisy) {
  Scripted calm({1.0}), wild({1.0, 3.0, 9.0, 27.0});
  TimerOptions options = Quick();
  options.rounds = 2;
  InterleavedTimer timer(options);
  timer.Add({"calm", &calm});
  timer.Add({"wild", &wild});
  const auto timed = timer.Run();
  EXPECT_FALSE(timed.at("calm").noisy);
  EXPECT_TRUE(timed.at("wild").noisy);
  // Beside it, all over again.
  EXPECT_EQ(wild.runs(), 6);
  EXPECT_EQ(calm.runs(), 6);
}

TEST(InterleavedTimerTest, DisturbedRepetitionsDoNotCount) {
  Scripted workload({1.0});
  TimerOptions options = Quick();
  options.repetitions = 6;
  // Asked at the beginning and at the end of each repetition.
  int asked = 0;
  options.disturbed = [&asked] { return ++asked % 4 == 0; };
  InterleavedTimer timer(options);
  timer.Add({"a", &workload});
  const auto timed = timer.Run();
  EXPECT_EQ(timed.at("a").rejected, 3);
  EXPECT_EQ(timed.at("a").seconds.size(), 3);
}

TEST(InterleavedTimerTest, FewerThanThreeMayBeAskedFor) {
  Scripted workload({1.0});
  InterleavedTimer timer(Quick());
  timer.Add({"a", &workload, /*repetitions=*/1});
  const auto timed = timer.Run();
  EXPECT_FALSE(timed.at("a").noisy);
  EXPECT_EQ(workload.runs(), 1);
}

TEST(InterleavedTimerTest, RewindsInTime) {
  Forgetful workload;
  InterleavedTimer timer(Quick());
  timer.Add({"a", &workload});
  const auto timed = timer.Run();
  EXPECT_EQ(timed.at("a").error, "");
  EXPECT_GT(workload.rewinds, 0);
  EXPECT_GE(3 * workload.rewinds, workload.runs);
  EXPECT_GT(timed.at("a").iterations, 3);
}

TEST(InterleavedTimerTest, ErrorsAreKept) {
  class Broken : public Workload {
    absl::Status Run() override { return absl::InternalError("broken"); }
    std::vector<Tensor> Outputs() const override { return {}; }
  } broken;
  Scripted fine({1.0});
  InterleavedTimer timer(Quick());
  timer.Add({"broken", &broken});
  timer.Add({"fine", &fine});
  const auto timed = timer.Run();
  EXPECT_EQ(timed.at("broken").error, "broken");
  EXPECT_EQ(timed.at("fine").seconds.size(), 3);
}

TEST(NotOfOneMindTest, FewOrScatteredRepetitions) {
  Repetitions few, calm, wild, failed;
  few.seconds = {1, 1};
  few.rejected = 1;
  calm.seconds = {1, 1.01, 1.02};
  wild.seconds = {1, 2, 3};
  failed.error = "broken";
  const std::map<std::string, Repetitions> measured = {
      {"few", few}, {"calm", calm}, {"wild", wild}, {"failed", failed}};
  EXPECT_EQ(NotOfOneMind(measured, 0.05),
            std::vector<std::string>({"few", "wild"}));
}

}  // namespace
}  // namespace mneme
