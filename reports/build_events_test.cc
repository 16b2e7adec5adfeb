// SPDX-License-Identifier: Apache-2.0

#include "reports/build_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace mneme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

// As Bazel 4.2 writes them, without what does not matter here. One cell and
// one probe were built, a cell crashed, and the runner of a third did not
// compile.
constexpr char kEvents[] =
    R"({"id":{"started":{}},"started":{"command":"build"}}
{"id":{"actionCompleted":{"primaryOutput":"bazel-out/k8-opt/bin/attention/gla/_objs/gla/gla.o","label":"//attention/gla:gla"}},"action":{"exitCode":1,"label":"//attention/gla:gla","type":"CppCompile","failureDetail":{"message":"gcc failed","spawn":{"code":"NON_ZERO_EXIT","spawnExitCode":1}}}}
{"id":{"actionCompleted":{"primaryOutput":"bazel-out/k8-opt/bin/reports/cells/quick/mqar.linear.0.record","label":"//reports:cells"}},"action":{"exitCode":1,"stderr":{"name":"stderr","uri":"file:///o/a%20b/stderr-4"},"label":"//reports:cells","type":"MnemeCell","failureDetail":{"message":"linear_runner failed","spawn":{"code":"NON_ZERO_EXIT","spawnExitCode":134}}}}
{"id":{"namedSet":{"id":"1"}},"namedSetOfFiles":{"files":[{"name":"reports/probes/softmax.probe","uri":"file:///o/softmax.probe"}]}}
{"id":{"targetCompleted":{"label":"//reports:probes"}},"completed":{"success":true,"outputGroup":[{"name":"probe.softmax","fileSets":[{"id":"1"}]}]}}
{"id":{"namedSet":{"id":"0"}},"namedSetOfFiles":{"files":[{"name":"reports/cells/quick/mqar.softmax.0.record","uri":"file:///o/mqar.softmax.0.record"}]}}
{"id":{"targetCompleted":{"label":"//reports:other"}},"completed":{"success":true,"outputGroup":[{"name":"default","fileSets":[{"id":"0"}]}]}}
{"id":{"targetCompleted":{"label":"//reports:cells"}},"completed":{"outputGroup":[{"name":"mqar.softmax.0","fileSets":[{"id":"0"}]}],"failureDetail":{"message":"gcc failed"}}}
{"id":{"buildFinished":{}},"finished":{"exitCode":{"name":"BUILD_FAILURE","code":1}}}
)";

const std::vector<std::string> kLabels = {"//reports:cells",
                                          "//reports:probes"};

TEST(BuildEvents, FindsWhatWasBuilt) {
  const auto outcome = ParseBuildEvents(kEvents, kLabels);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(outcome->attempted,
              ElementsAre("//reports:cells", "//reports:probes"));
  EXPECT_THAT(outcome->records,
              ElementsAre(Pair("mqar.softmax.0", "/o/mqar.softmax.0.record"),
                          Pair("probe.softmax", "/o/softmax.probe")));
}

TEST(BuildEvents, FindsWhatFailed) {
  const auto outcome = ParseBuildEvents(kEvents, kLabels);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_THAT(outcome->failures, SizeIs(2));
  const FailedAction& compile = outcome->failures[0];
  EXPECT_EQ(compile.label, "//attention/gla:gla");
  EXPECT_EQ(compile.mnemonic, "CppCompile");
  EXPECT_EQ(compile.stderr_path, "");
  const FailedAction& cell = outcome->failures[1];
  EXPECT_EQ(cell.output,
            "bazel-out/k8-opt/bin/reports/cells/quick/mqar.linear.0.record");
  EXPECT_EQ(cell.stderr_path, "/o/a b/stderr-4");
  EXPECT_EQ(cell.exit_code, 134);
}

TEST(BuildEvents, ATargetThatWasNotAnalysedIsNotAttempted) {
  const auto outcome = ParseBuildEvents(
      R"({"id":{"targetConfigured":{"label":"//reports:cells"}},"aborted":{"reason":"ANALYSIS_FAILURE"}})",
      kLabels);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(outcome->attempted, IsEmpty());
  EXPECT_THAT(outcome->records, IsEmpty());
}

TEST(BuildEvents, ATruncatedFileIsAnError) {
  const auto outcome =
      ParseBuildEvents("{\"id\":{\"started\":{}}}\n{\"id\":{\"na", {"//a:b"});
  EXPECT_TRUE(absl::IsDataLoss(outcome.status()));
  EXPECT_EQ(outcome.status().message(),
            "Bazel's build event 2 is no JSON object");
}

// Whatever the types are, nothing throws.
TEST(BuildEvents, OddShapesAreIgnored) {
  for (
      const char* event :
      {R"({"id":[],"completed":5})", R"({"id":{"namedSet":{"id":7}}})",
       R"({"id":{"targetCompleted":{"label":"//a:b"}},"completed":{"outputGroup":[3,{"name":1,"fileSets":[{"id":"9"}]}]}})",
       R"({"id":{},"action":{"exitCode":"one","stderr":[]}})"}) {
    EXPECT_TRUE(ParseBuildEvents(event, {"//a:b"}).ok()) << event;
  }
}

}  // namespace
}  // namespace mneme
