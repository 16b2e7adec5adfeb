// SPDX-License-Identifier: Apache-2.0

#include "tasks/task_golden.h"

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

// One token, one target; what they are depends on everything.
class Tiny : public Task {
 public:
  explicit Tiny(int shift) : shift_(shift) {}
  int64_t vocabulary() const override { return 1000; }
  int64_t length() const override { return 1; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    const int32_t token = 100 * static_cast<int>(split) + 10 * seed + index;
    *example = {{token}, {token + shift_}, {TokenRole::kQuery}};
  }
  double ChanceScore() const override { return 0; }
  double ContextGuessScore() const override { return 1; }

 private:
  int shift_;
};

TaskPlugin Plugin(int version, int shift) {
  TaskDescriptor descriptor;
  descriptor.name = "tiny";
  descriptor.version = version;
  descriptor.profiles = {{"quick", {}}, {"published/a", {}}};
  return {descriptor,
          [=](const Options&) { return std::make_unique<Tiny>(shift); }};
}

std::string Golden(const TaskPlugin& plugin) {
  return *UpdatedGolden(plugin, "", "command");
}

std::string Message(const absl::Status& status) {
  EXPECT_FALSE(status.ok());
  return std::string(status.message());
}

TEST(ExamplesHashTest, IsStableAndSeesEachPart) {
  // Changing this changes the golden files of all tasks.
  EXPECT_EQ(ExamplesHash(Tiny(1)), 0x3f18cc8a6602ac9e);
  EXPECT_NE(ExamplesHash(Tiny(1)), ExamplesHash(Tiny(2)));

  class Longer : public Tiny {
   public:
    Longer() : Tiny(1) {}
    int64_t vocabulary() const override { return 1001; }
  };
  EXPECT_NE(ExamplesHash(Longer()), ExamplesHash(Tiny(1)));

  class OtherRole : public Tiny {
   public:
    OtherRole() : Tiny(1) {}
    void Generate(Split split, uint64_t seed, uint64_t index,
                  Example* example) const override {
      Tiny::Generate(split, seed, index, example);
      if (split == Split::kTest && seed == 1 && index == 7) {
        example->roles[0] = TokenRole::kFiller;
      }
    }
  };
  EXPECT_NE(ExamplesHash(OtherRole()), ExamplesHash(Tiny(1)));
}

TEST(TaskGoldenTest, WhatIsWrittenIsAccepted) {
  const std::string golden = Golden(Plugin(1, 1));
  EXPECT_THAT(golden, HasSubstr("# command\nquick 1 "));
  EXPECT_THAT(golden, HasSubstr("\npublished/a 1 "));
  EXPECT_EQ(CheckGolden(Plugin(1, 1), golden), absl::OkStatus());
}

TEST(TaskGoldenTest, OtherDataNeedAnotherVersion) {
  const std::string golden = Golden(Plugin(1, 1));
  EXPECT_THAT(Message(CheckGolden(Plugin(1, 2), golden)),
              HasSubstr("profile quick generates other data than version 1"));
  EXPECT_THAT(Message(UpdatedGolden(Plugin(1, 2), golden, "command").status()),
              HasSubstr("raise the descriptor's version"));

  EXPECT_THAT(
      Message(CheckGolden(Plugin(2, 2), golden)),
      HasSubstr("has version 1 of profile quick, the descriptor says 2"));
  const auto updated = UpdatedGolden(Plugin(2, 2), golden, "command");
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(CheckGolden(Plugin(2, 2), *updated), absl::OkStatus());
}

TEST(TaskGoldenTest, ProfilesMustBeTheSame) {
  TaskPlugin plugin = Plugin(1, 1);
  const std::string golden = Golden(plugin);
  plugin.descriptor.profiles.push_back({"smoke", {}});
  EXPECT_THAT(Message(CheckGolden(plugin, golden)),
              HasSubstr("profile smoke is not in"));
  plugin.descriptor.profiles.resize(1);
  EXPECT_THAT(Message(CheckGolden(plugin, golden)),
              HasSubstr("has a profile published/a that the task has not"));
}

TEST(TaskGoldenTest, OtherTextIsRefused) {
  const TaskPlugin plugin = Plugin(1, 1);
  for (const char* line : {"quick 1", "quick one 0123456789abcdef",
                           "quick 1 0123456789abcde", "quick  1 2"}) {
    const std::string golden = std::string("# comment\n\n") + line + "\n";
    EXPECT_THAT(Message(CheckGolden(plugin, golden)), HasSubstr("line 3"));
    EXPECT_FALSE(UpdatedGolden(plugin, golden, "command").ok());
  }
  const std::string golden = Golden(plugin);
  EXPECT_THAT(Message(CheckGolden(plugin, golden + golden)),
              HasSubstr("line 7: profile quick stands there twice"));
}

}  // namespace
}  // namespace mneme
