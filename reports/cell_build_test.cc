// SPDX-License-Identifier: Apache-2.0

#include "reports/cell_build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "harness/atomic_file.h"
#include "harness/probe_record.h"
#include "harness/record.h"
#include "reports/testing.h"

namespace mneme {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

Catalog TestCatalog() {
  Catalog catalog;
  catalog.cells = "//:board_cells";
  catalog.probes = "//:board_probes";
  catalog.flags = "@mneme//reports";
  catalog.variants = {{"linear", "@mneme//attention/linear:linear"},
                      {"softmax", "//mine:softmax"}};
  catalog.tasks = {"copy", "mqar"};
  catalog.headline = {"mqar"};
  return catalog;
}

CellSelection Complete(CellSelection selection) {
  auto complete = CompleteSelection(std::move(selection), TestCatalog());
  EXPECT_TRUE(complete.ok()) << complete.status();
  return complete.value_or(CellSelection());
}

absl::Status CompletionError(CellSelection selection) {
  return CompleteSelection(std::move(selection), TestCatalog()).status();
}

TEST(CompleteSelection, AllTasksAreAskedForByThatWord) {
  CellSelection selection;
  selection.tasks = {"all"};
  EXPECT_THAT(Complete(selection).tasks, ElementsAre("copy", "mqar"));
  selection.tasks = {"copy"};
  EXPECT_THAT(Complete(selection).tasks, ElementsAre("copy"));
}

TEST(CompleteSelection, AClaimTakesSeveralSeeds) {
  CellSelection selection;
  EXPECT_THAT(Complete(selection).seeds, ElementsAre(0));
  selection.profile = "standard";
  EXPECT_THAT(Complete(selection).seeds, ElementsAre(0, 1, 2));
  selection.seeds = {7};
  EXPECT_THAT(Complete(selection).seeds, ElementsAre(7));
}

TEST(CompleteSelection, NoneIsAllVariantsAndTheHeadlineTasks) {
  EXPECT_THAT(Complete({}).variants, ElementsAre("linear", "softmax"));
  EXPECT_THAT(Complete({}).tasks, ElementsAre("mqar"));
  CellSelection empty;
  empty.tasks = {""};  // --tasks=
  EXPECT_THAT(Complete(empty).tasks, ElementsAre("mqar"));
}

TEST(CompleteSelection, DuplicatesCountOnce) {
  CellSelection selection;
  selection.variants = {"softmax", "linear", "softmax"};
  selection.seeds = {1, 1};
  EXPECT_THAT(Complete(selection).variants, ElementsAre("softmax", "linear"));
  EXPECT_THAT(Complete(selection).seeds, ElementsAre(1));
}

TEST(CompleteSelection, SuggestsTheNearestName) {
  CellSelection selection;
  selection.variants = {"sofmax"};
  const absl::Status status = CompletionError(selection);
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("did you mean \"softmax\"?"));
}

TEST(CompleteSelection, SettingsAreNameEqualsValue) {
  for (const char* setting : {"steps", "=1", "a=1,2"}) {
    CellSelection selection;
    selection.settings = {setting};
    EXPECT_TRUE(absl::IsInvalidArgument(CompletionError(selection))) << setting;
  }
  CellSelection selection;
  selection.settings = {"a=b=c"};
  EXPECT_TRUE(CompletionError(selection).ok());
}

TEST(BuildArguments, DefaultsNeedNoBuildSetting) {
  EXPECT_THAT(
      BuildArguments(Complete({}), TestCatalog(), "/tmp/events"),
      ElementsAre(
          "build", "//:board_cells", "//:board_probes", "--keep_going",
          "--ui_event_filters=-info", "--build_event_json_file=/tmp/events",
          "--output_groups=mqar.linear.0", "--output_groups=mqar.softmax.0",
          "--output_groups=probe.linear", "--output_groups=probe.softmax"));
}

TEST(BuildArguments, ProbesCanBeLeftOut) {
  CellSelection selection;
  selection.probes = false;
  EXPECT_THAT(BuildArguments(Complete(selection), TestCatalog(), "/tmp/events"),
              Each(Not(HasSubstr("probe"))));
}

TEST(BuildArguments, OnlyWhatWasChosen) {
  CellSelection selection;
  selection.variants = {"softmax"};
  selection.seeds = {0, 5};
  selection.profile = "published/zoology";
  selection.settings = {"train.steps=10", "pairs=4"};
  const std::vector<std::string> arguments =
      BuildArguments(Complete(selection), TestCatalog(), "/tmp/events");
  EXPECT_THAT(arguments, Contains("--@mneme//reports:seeds=0,5"));
  EXPECT_THAT(arguments,
              Contains("--@mneme//reports:profile=published/zoology"));
  EXPECT_THAT(arguments,
              Contains("--@mneme//reports:settings=train.steps=10,pairs=4"));
  EXPECT_THAT(arguments, Contains("--output_groups=mqar.softmax.5"));
  EXPECT_THAT(arguments, Not(Contains(HasSubstr("linear"))));
}

FailedAction CellFailure(const std::string& cell, int exit_code,
                         const std::string& said) {
  FailedAction failure;
  failure.label = TestCatalog().cells;
  failure.mnemonic = "MnemeCell";
  failure.output = "bazel-out/bin/board_cells/quick/" + cell + ".record";
  failure.exit_code = exit_code;
  failure.stderr_path = testing::TempDir() + "/" + cell + ".stderr";
  EXPECT_TRUE(WriteFileAtomically(failure.stderr_path, said).ok());
  return failure;
}

TEST(CollectRecords, EachCellHasOne) {
  const std::string path = testing::TempDir() + "/mqar.softmax.0.record";
  ASSERT_TRUE(WriteRecord(path, OkCell("softmax", 1.0)).ok());
  BuildOutcome outcome;
  outcome.records["mqar.softmax.0"] = path;
  outcome.failures = {
      CellFailure("mqar.linear.0", 134, "step 3\nlinear: out of luck\n\n")};
  const auto records = CollectRecords(Complete({}), TestCatalog(), outcome);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_THAT(records->cells, SizeIs(2));
  EXPECT_EQ(records->cells[0].variant(), "linear");
  EXPECT_EQ(records->cells[0].status(), STATUS_FAILED);
  EXPECT_EQ(records->cells[0].status_message(),
            "killed by signal 6 (Aborted): linear: out of luck");
  EXPECT_EQ(records->cells[1].metrics().accuracy(), 1.0);
}

TEST(CollectRecords, ARunnerThatWasNotBuiltNamesItsOwnFailure) {
  FailedAction other;
  other.label = "@mneme//attention/gla:gla";
  other.mnemonic = "CppCompile";
  FailedAction own = other;
  own.label = "@mneme//attention/linear:linear";
  BuildOutcome outcome;
  outcome.failures = {other, own};
  const auto records = CollectRecords(Complete({}), TestCatalog(), outcome);
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ(records->cells[0].status_message(),
            "its runner was not built: CppCompile of "
            "@mneme//attention/linear:linear failed");
  EXPECT_EQ(records->cells[1].status_message(),
            "its runner was not built: CppCompile of @mneme//attention/gla:gla "
            "failed");
  outcome.attempted = {TestCatalog().probes};
  EXPECT_EQ(
      CollectRecords(Complete({}), TestCatalog(), outcome)->probes[0].failure(),
      "its prober was not built: CppCompile of "
      "@mneme//attention/linear:linear failed");
}

TEST(CollectRecords, WhatRunnersRefuseIsAUsageError) {
  BuildOutcome outcome;
  outcome.failures = {
      CellFailure("mqar.linear.0", 2, "mneme: unknown profile \"quik\"\n")};
  const auto records = CollectRecords(Complete({}), TestCatalog(), outcome);
  EXPECT_TRUE(absl::IsInvalidArgument(records.status()));
  EXPECT_EQ(records.status().message(), "unknown profile \"quik\"");

  // Unless it made sense to another.
  const std::string path = testing::TempDir() + "/mqar.softmax.0.record";
  ASSERT_TRUE(WriteRecord(path, OkCell("softmax", 1.0)).ok());
  outcome.records["mqar.softmax.0"] = path;
  EXPECT_TRUE(CollectRecords(Complete({}), TestCatalog(), outcome).ok());
}

TEST(CollectRecords, ADamagedRecordIsNamed) {
  const std::string path = testing::TempDir() + "/damaged.record";
  ASSERT_TRUE(WriteFileAtomically(path, "not gzip").ok());
  BuildOutcome outcome;
  outcome.records["mqar.softmax.0"] = path;
  const auto records = CollectRecords(Complete({}), TestCatalog(), outcome);
  EXPECT_THAT(std::string(records.status().message()), HasSubstr(path));
}

TEST(CollectRecords, EachProbeHasOne) {
  const std::string cell = testing::TempDir() + "/mqar.softmax.0.record";
  ASSERT_TRUE(WriteRecord(cell, OkCell("softmax", 1.0)).ok());
  const std::string probe = testing::TempDir() + "/softmax.probe";
  ASSERT_TRUE(WriteProbe(probe, CapacityProbe("softmax", 16)).ok());
  BuildOutcome outcome;
  outcome.attempted = {TestCatalog().cells, TestCatalog().probes};
  outcome.records = {{"mqar.softmax.0", cell}, {"probe.softmax", probe}};
  FailedAction& failure = outcome.failures.emplace_back(
      CellFailure("linear", 134, "out of luck\n"));
  failure.label = TestCatalog().probes;
  failure.output = "bazel-out/bin/reports/probes/linear.probe";
  const auto records = CollectRecords(Complete({}), TestCatalog(), outcome);
  ASSERT_TRUE(records.ok()) << records.status();
  ASSERT_THAT(records->probes, SizeIs(2));
  EXPECT_EQ(records->probes[0].variant(), "linear");
  EXPECT_EQ(records->probes[0].failure(),
            "killed by signal 6 (Aborted): out of luck");
  EXPECT_EQ(records->probes[1].failure(), "");
  EXPECT_EQ(records->probes[1].capacity_size(), 2);
  // Nor is it why linear's cell is missing.
  EXPECT_EQ(records->cells[0].status_message(), "Bazel did not get as far");
}

TEST(CollectRecords, NoProbeCostsTheRanking) {
  const std::string cell = testing::TempDir() + "/mqar.softmax.0.record";
  ASSERT_TRUE(WriteRecord(cell, OkCell("softmax", 1.0)).ok());
  const std::string damaged = testing::TempDir() + "/damaged.probe";
  ASSERT_TRUE(WriteFileAtomically(damaged, "not gzip").ok());
  BuildOutcome outcome;
  outcome.attempted = {TestCatalog().cells};
  outcome.records = {{"mqar.softmax.0", cell}, {"probe.softmax", damaged}};
  const auto records = CollectRecords(Complete({}), TestCatalog(), outcome);
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_EQ(records->probes[0].failure(),
            "Bazel could not prepare //:board_probes");
  EXPECT_THAT(records->probes[1].failure(), HasSubstr(damaged));

  CellSelection without;
  without.probes = false;
  EXPECT_THAT(CollectRecords(Complete(without), TestCatalog(), outcome)->probes,
              IsEmpty());
}

}  // namespace
}  // namespace mneme
