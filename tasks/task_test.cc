// SPDX-License-Identifier: Apache-2.0

#include "tasks/task.h"

#include "gtest/gtest.h"

namespace mneme {
namespace {

// Repeats token 1 twice; what is predicted does not matter to it.
class Minimal : public Task {
 public:
  int64_t vocabulary() const override { return 4; }
  int64_t length() const override { return 4; }
  void Generate(Split, uint64_t, uint64_t, Example* example) const override {
    *example = {{1, 1, 1, 1}, {kUnscored, 2, kUnscored, 3}, {}};
  }
  double ChanceScore() const override { return 0.25; }
  double ContextGuessScore() const override { return 1; }
};

double Score(const std::vector<int32_t>& targets,
             const std::vector<int32_t>& predictions) {
  return Minimal().Score({{}, targets, {}}, predictions);
}

TEST(TaskTest, SplitsHaveNames) {
  EXPECT_EQ(SplitName(Split::kTrain), "train");
  EXPECT_EQ(SplitName(Split::kValidation), "validation");
  EXPECT_EQ(SplitName(Split::kTest), "test");
}

TEST(TaskTest, ScoreIsTheFractionOfScoredPositions) {
  constexpr int32_t kNone = kUnscored;
  EXPECT_EQ(Score({kNone, 2, kNone, 3}, {2, 3}), 1);
  EXPECT_EQ(Score({kNone, 2, kNone, 3}, {2, 2}), 0.5);
  EXPECT_EQ(Score({kNone, 2, kNone, 3}, {3, 2}), 0);  // in order
  EXPECT_EQ(Score({0, 0, 0, 1}, {0, 0, 0, 0}), 0.75);
  EXPECT_EQ(Score({kNone, kNone}, {}), 0);
}

TEST(TaskTest, MissingAndSurplusPredictionsAreProgrammingErrors) {
  EXPECT_DEBUG_DEATH(EXPECT_EQ(Score({2, 3}, {2}), 0.5), "one prediction");
  EXPECT_DEBUG_DEATH(EXPECT_EQ(Score({2, 3}, {2, 3, 3}), 1), "one prediction");
}

TEST(TaskTest, ARegisteredTaskIsFoundByName) {
  TaskDescriptor descriptor;
  descriptor.name = "minimal";
  EXPECT_TRUE(RegisterTask({descriptor, [](const Options&) {
                              return std::make_unique<Minimal>();
                            }}));
  const absl::StatusOr<const TaskPlugin*> plugin = Tasks().Find("minimal");
  ASSERT_TRUE(plugin.ok()) << plugin.status();
  EXPECT_EQ((*plugin)->descriptor.name, "minimal");
  EXPECT_EQ((*(*plugin)->make(Options()))->length(), 4);
  EXPECT_EQ(Tasks().Find("minimum").status().message(),
            "unknown task \"minimum\"; did you mean \"minimal\"? known: "
            "minimal");
}

}  // namespace
}  // namespace mneme
