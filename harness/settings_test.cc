// SPDX-License-Identifier: Apache-2.0

#include "harness/settings.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

VariantDescriptor SomeVariant() {
  VariantDescriptor d;
  d.name = "some";
  d.options = {OptionSpec::Int("chunk", 64, 1, 128, "tokens a block"),
               OptionSpec::Int("layers", 1, 1, 4, "clashes with the model's")};
  return d;
}

TaskDescriptor SomeTask() {
  TaskDescriptor d;
  d.name = "other";
  d.options = {OptionSpec::Int("pairs", 8, 1, 64, "pairs")};
  d.profiles = {
      {"quick", {{"pairs", "4"}}},
      {"smoke", {{"pairs", "2"}}},
      {"published/x", {{"pairs", "16"}}, {{"width", "32"}}, {{"steps", "9"}}},
      {"untold", {{"pairs", "16"}}}};
  return d;
}

std::string Error(const std::vector<std::string>& set,
                  const std::string& profile = "quick") {
  return std::string(ResolveSettings(SomeVariant(), SomeTask(), profile, set)
                         .status()
                         .message());
}

TEST(Settings, ProfilesSetTaskModelAndTraining) {
  const auto quick = ResolveSettings(SomeVariant(), SomeTask(), "quick", {});
  ASSERT_TRUE(quick.ok()) << quick.status();
  EXPECT_EQ(quick->task.Int("pairs"), 4);
  EXPECT_EQ(quick->model.Int("width"), 64);
  const auto smoke = ResolveSettings(SomeVariant(), SomeTask(), "smoke", {});
  ASSERT_TRUE(smoke.ok()) << smoke.status();
  EXPECT_EQ(smoke->task.Int("pairs"), 2);
  EXPECT_EQ(smoke->model.Int("width"), 16);
  EXPECT_EQ(smoke->train.Int("steps"), 6);
  const auto published =
      ResolveSettings(SomeVariant(), SomeTask(), "published/x", {});
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->task.Int("pairs"), 16);
  EXPECT_EQ(published->model.Int("width"), 32);
  EXPECT_EQ(published->train.Int("steps"), 9);
}

TEST(Settings, WhatATaskDoesNotDeclareIsItsQuickAtTheHarnessesTraining) {
  TaskDescriptor task = SomeTask();
  task.profiles[0].model = {{"width", "48"}};
  task.profiles[0].train = {{"steps", "200"}, {"batch", "16"}};
  const auto standard = ResolveSettings(SomeVariant(), task, "standard", {});
  ASSERT_TRUE(standard.ok()) << standard.status();
  EXPECT_EQ(standard->task.Int("pairs"), 4);
  EXPECT_EQ(standard->model.Int("width"), 48);
  EXPECT_EQ(standard->train.Int("batch"), 16);
  EXPECT_EQ(standard->train.Int("steps"), 1600) << "standard's own wins";
  EXPECT_EQ(standard->train.Int("rates"), 3);
  task.profiles.push_back(
      {"standard", {{"pairs", "32"}}, {}, {{"steps", "9"}}});
  const auto declared = ResolveSettings(SomeVariant(), task, "standard", {});
  ASSERT_TRUE(declared.ok()) << declared.status();
  EXPECT_EQ(declared->task.Int("pairs"), 32);
  EXPECT_EQ(declared->model.Int("width"), 64);
  EXPECT_EQ(declared->train.Int("steps"), 9);
  EXPECT_EQ(declared->train.Int("rates"), 3);
  // Smoke is no measure of anything: a task says itself what is small.
  task.profiles.erase(task.profiles.begin() + 1);
  EXPECT_FALSE(ResolveSettings(SomeVariant(), task, "smoke", {}).ok());
}

TEST(Settings, AssignmentsOverrideInOrder) {
  const auto settings = ResolveSettings(
      SomeVariant(), SomeTask(), "quick",
      {"pairs=5", "train.steps=7", "chunk=16", "pairs=6", "model.layers=3"});
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->task.Int("pairs"), 6);
  EXPECT_EQ(settings->train.Int("steps"), 7);
  EXPECT_EQ(settings->variant.Int("chunk"), 16);
  EXPECT_EQ(settings->model.Int("layers"), 3);
}

TEST(Settings, ErrorsSayWhatWasMeant) {
  EXPECT_NE(Error({"pear=5"}).find("pairs"), std::string::npos)
      << Error({"pear=5"});
  EXPECT_NE(Error({"trian.steps=5"}).find("train"), std::string::npos);
  EXPECT_NE(Error({"layers=2"}).find("model.layers"), std::string::npos)
      << "ambiguous names list their scopes";
  EXPECT_NE(Error({}, "quik").find("quick"), std::string::npos);
  EXPECT_NE(Error({}, "standrad").find("standard"), std::string::npos);
  const std::string range = Error({"pairs=1000"});
  EXPECT_NE(range.find("pairs"), std::string::npos) << range;
  EXPECT_NE(range.find("1000"), std::string::npos) << range;
  EXPECT_NE(range.find("64"), std::string::npos) << range;
  EXPECT_FALSE(Error({"pairs"}).empty());
  EXPECT_NE(Error({}, "untold").find("training"), std::string::npos);
}

}  // namespace
}  // namespace mneme
