// SPDX-License-Identifier: Apache-2.0
//
// Every profile of every task can be run: its settings exist and are in range.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "attention/variant.h"
#include "gtest/gtest.h"
#include "harness/settings.h"
#include "harness/trainer.h"
#include "tasks/task.h"

namespace mneme {
namespace {

TEST(Profiles, OfEveryTaskResolve) {
  const VariantDescriptor variant;  // without options of its own
  ASSERT_FALSE(Tasks().Names().empty());
  for (const std::string& name : Tasks().Names()) {
    const TaskPlugin& plugin = **Tasks().Find(name);
    std::vector<std::string> profiles = {"quick", "smoke", "standard"};
    for (const TaskProfile& profile : plugin.descriptor.profiles) {
      profiles.push_back(profile.name);
    }
    for (const std::string& profile : profiles) {
      SCOPED_TRACE(name + " " + profile);
      const auto settings =
          ResolveSettings(variant, plugin.descriptor, profile, {});
      EXPECT_TRUE(settings.ok()) << settings.status();
      if (!settings.ok()) continue;
      const absl::Status training = CheckTrainOptions(settings->train);
      EXPECT_TRUE(training.ok()) << training;
      const auto task = plugin.make(settings->task);
      EXPECT_TRUE(task.ok()) << task.status();
    }
  }
}

}  // namespace
}  // namespace mneme
