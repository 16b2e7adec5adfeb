// SPDX-License-Identifier: Apache-2.0

#include "harness/throughput/plan.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Contenders of two variants and of all; nobody runs them.
bool RegisterAll() {
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    RegisterContender({"rival", "softmax", phase, 0, nullptr});
    RegisterContender({kOwnContender, "", phase, 0, nullptr});
  }
  return RegisterContender({"backbone", "", Phase::kTrain, 0, nullptr});
}
const bool registered = RegisterAll();

std::vector<std::string> NamesOf(const Selection& selection,
                                 absl::string_view variant) {
  const auto groups = PlanOf(selection, variant);
  EXPECT_TRUE(groups.ok()) << groups.status();
  std::vector<std::string> names;
  for (const PlannedGroup& group : *groups) {
    for (const auto& [phase, contenders] : group.phases) {
      for (const Contender* contender : contenders) {
        EXPECT_EQ(contender->phase, phase);
        names.push_back(MeasurementName(variant, group, *contender));
      }
    }
  }
  return names;
}

constexpr ThroughputShape kShort{1, 32, 2, 8}, kLong{1, 64, 2, 8};

TEST(PlanTest, OurOwnComesFirstAndOthersOnlyWhereTheyBelong) {
  Selection selection;
  selection.phases = {Phase::kPrefill};
  selection.shapes = {kShort};
  EXPECT_THAT(NamesOf(selection, "softmax"),
              ElementsAre("softmax/prefill/1x32x2x8/1/mneme",
                          "softmax/prefill/1x32x2x8/1/rival"));
  EXPECT_THAT(NamesOf(selection, "linear"),
              ElementsAre("linear/prefill/1x32x2x8/1/mneme"));
}

TEST(PlanTest, PhasesOfAShapeAreOneGroup) {
  Selection selection;
  selection.phases = {Phase::kDecode, Phase::kPrefill};
  selection.shapes = {kShort, kLong};
  selection.threads = {1, 2};
  const auto groups = PlanOf(selection, "linear");
  ASSERT_TRUE(groups.ok()) << groups.status();
  ASSERT_EQ(groups->size(), 4);
  for (const PlannedGroup& group : *groups) {
    ASSERT_EQ(group.phases.size(), 2);
    EXPECT_EQ(group.phases[0].phase, Phase::kDecode);
    EXPECT_EQ(group.phases[1].phase, Phase::kPrefill);
  }
  EXPECT_TRUE((*groups)[1].shape == kLong);
  EXPECT_EQ((*groups)[1].threads, 1);
  EXPECT_EQ((*groups)[2].threads, 2);
}

TEST(PlanTest, WhatIsAskedForTwiceIsPlannedOnce) {
  Selection selection;
  selection.phases = {Phase::kPrefill, Phase::kPrefill};
  selection.shapes = {kShort, kShort};
  selection.threads = {1, 1};
  EXPECT_EQ(NamesOf(selection, "linear").size(), 1);
}

TEST(PlanTest, WithoutShapesEachPhaseHasItsOwn) {
  Selection selection;
  selection.phases = {Phase::kPrefill, Phase::kTrain};
  selection.contenders = {kOwnContender, "backbone"};
  EXPECT_THAT(
      NamesOf(selection, "softmax"),
      ElementsAre("softmax/prefill/" +
                      DefaultShape(Phase::kPrefill).ToString() + "/1/mneme",
                  "softmax/train/" + DefaultShape(Phase::kTrain).ToString() +
                      "/1/backbone"));
}

TEST(PlanTest, Filters) {
  Selection selection;
  selection.phases = {Phase::kPrefill, Phase::kDecode};
  selection.shapes = {kShort};
  selection.filter = "decode.*rival";
  EXPECT_THAT(NamesOf(selection, "softmax"),
              ElementsAre("softmax/decode/1x32x2x8/1/rival"));
  selection.filter = "-rival|decode";
  EXPECT_THAT(NamesOf(selection, "softmax"),
              ElementsAre("softmax/prefill/1x32x2x8/1/mneme"));
  // Groups without anything to time are none.
  selection.filter = "nothing";
  EXPECT_THAT(*PlanOf(selection, "softmax"), IsEmpty());
  // The last one is too large for the library.
  for (const char* const filter : {"(", "-[", "*", "(a{999}){999}"}) {
    selection.filter = filter;
    const absl::Status status = PlanOf(selection, "softmax").status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << filter;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--benchmark_filter"))
        << filter;
  }
}

}  // namespace
}  // namespace mneme
