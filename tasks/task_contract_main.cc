// SPDX-License-Identifier: Apache-2.0
//
// The test that task() in defs.bzl makes of each task: the checks of
// task_contract.h on every profile of every task linked in, and its golden
// file. With --update_golden, run by `bazel run`, it rewrites that file
// instead.

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_contract.h"
#include "tasks/task_golden.h"

ABSL_FLAG(std::string, golden, "", "golden file, from the workspace's root");
ABSL_FLAG(std::string, target, "", "label of this test, for messages");
ABSL_FLAG(bool, update_golden, false, "rewrite the golden file, test nothing");

namespace mneme {
namespace {

const TaskPlugin& OnlyPlugin() {
  const std::vector<std::string> names = Tasks().Names();
  if (names.size() != 1) {
    std::cerr << "a contract test is of one task, not of " << names.size()
              << "\n";
    std::exit(2);
  }
  return **Tasks().Find(names[0]);
}

std::string UpdateCommand() {
  return absl::StrCat("./bazelw run ", absl::GetFlag(FLAGS_target),
                      " -- --update_golden");
}

// Empty when there is no such file.
std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(TaskContractTest, DescriptorIsComplete) {
  EXPECT_EQ(CheckDescriptor(OnlyPlugin()), absl::OkStatus());
}

TEST(TaskContractTest, ExtremeOptionsAreTakenOrRefused) {
  EXPECT_EQ(CheckExtremeOptions(OnlyPlugin()), absl::OkStatus());
}

TEST(TaskContractTest, DataChangeOnlyWithTheVersion) {
  EXPECT_EQ(CheckGolden(OnlyPlugin(), ReadText(absl::GetFlag(FLAGS_golden))),
            absl::OkStatus())
      << "to update: " << UpdateCommand();
}

class TaskProfileContractTest : public testing::TestWithParam<TaskProfile> {
 protected:
  void SetUp() override {
    for (auto* task : {&task_, &twin_}) {
      auto made = MakeTask(OnlyPlugin(), GetParam());
      ASSERT_TRUE(made.ok()) << made.status();
      *task = *std::move(made);
    }
  }

  std::unique_ptr<Task> task_;
  std::unique_ptr<Task> twin_;
};

TEST_P(TaskProfileContractTest, WellFormed) {
  EXPECT_EQ(CheckWellFormed(*task_), absl::OkStatus());
}

TEST_P(TaskProfileContractTest, Pure) {
  EXPECT_EQ(CheckPure(*task_, *twin_), absl::OkStatus());
}

TEST_P(TaskProfileContractTest, StreamsDiffer) {
  EXPECT_EQ(CheckStreamsDiffer(*task_), absl::OkStatus());
}

TEST_P(TaskProfileContractTest, Ranges) {
  EXPECT_EQ(CheckRanges(*task_), absl::OkStatus());
}

TEST_P(TaskProfileContractTest, Scores) {
  EXPECT_EQ(CheckScores(*task_), absl::OkStatus());
}

TEST_P(TaskProfileContractTest, NothingLeaks) {
  EXPECT_EQ(CheckLeaks(*task_), absl::OkStatus());
}

std::string TestName(const testing::TestParamInfo<TaskProfile>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (!absl::ascii_isalnum(c)) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Profiles, TaskProfileContractTest,
                         testing::ValuesIn(OnlyPlugin().descriptor.profiles),
                         TestName);

int UpdateGolden() {
  const char* root = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (root == nullptr) {
    std::cerr << "--update_golden writes to the source tree; run it as "
              << UpdateCommand() << "\n";
    return 2;
  }
  const std::string path = absl::StrCat(root, "/", absl::GetFlag(FLAGS_golden));
  const absl::StatusOr<std::string> text =
      UpdatedGolden(OnlyPlugin(), ReadText(path), UpdateCommand());
  if (!text.ok()) {
    std::cerr << text.status().message() << "\n";
    return 1;
  }
  std::ofstream file(path);
  file << *text << std::flush;
  if (!file) {
    std::cerr << "cannot write " << path << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace mneme

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  absl::ParseCommandLine(argc, argv);
  if (absl::GetFlag(FLAGS_update_golden)) return mneme::UpdateGolden();
  return RUN_ALL_TESTS();
}
