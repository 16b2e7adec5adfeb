// SPDX-License-Identifier: Apache-2.0

#include "attention/plugin/registry.h"

#include <memory>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(RegistryTest, FindsWhatWasAdded) {
  Registry<int> registry("variant");
  EXPECT_TRUE(registry.Add("softmax", 1));
  EXPECT_TRUE(registry.Add("linear", 2));
  absl::StatusOr<const int*> found = registry.Find("linear");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(**found, 2);
}

TEST(RegistryTest, NamesAreSorted) {
  Registry<int> registry("variant");
  for (const char* name : {"softmax", "linear", "retention"}) {
    registry.Add(name, 0);
  }
  EXPECT_EQ(registry.Names(),
            (std::vector<std::string>{"linear", "retention", "softmax"}));
}

TEST(RegistryTest, AnUnknownNameGetsASuggestion) {
  Registry<int> registry("variant");
  registry.Add("softmax", 1);
  const absl::Status status = registry.Find("sofmax").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(),
            "unknown variant \"sofmax\"; did you mean \"softmax\"? known: "
            "softmax");
}

TEST(RegistryTest, TwoPluginsOfOneNameFailEveryLookup) {
  Registry<int> registry("task");
  registry.Add("mqar", 1);
  registry.Add("copy", 2);
  EXPECT_TRUE(registry.Add("mqar", 3));
  for (const char* name : {"mqar", "copy", "other"}) {
    const absl::Status status = registry.Find(name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(status.message(), "two plugins register the task \"mqar\"");
  }
  EXPECT_EQ(registry.Names(), (std::vector<std::string>{"copy", "mqar"}));
}

TEST(RegistryTest, EntriesNeedOnlyBeMovableAndStayWhereTheyAre) {
  Registry<std::unique_ptr<int>> registry("task");
  registry.Add("m", std::make_unique<int>(7));
  const std::unique_ptr<int>* before = *registry.Find("m");
  for (char c = 'a'; c < 'm'; ++c) registry.Add(std::string(1, c), nullptr);
  EXPECT_EQ(*registry.Find("m"), before);
  EXPECT_EQ(**before, 7);
}

}  // namespace
}  // namespace mneme
