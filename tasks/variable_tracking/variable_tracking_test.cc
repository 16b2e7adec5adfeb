// SPDX-License-Identifier: Apache-2.0
//
// What is particular to variable tracking. What all tasks have in common is in
// variable_tracking_contract_test.

#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/depth_grid.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

using Text = std::vector<int32_t>;

struct Shape {
  int length = 128, chains = 1, hops = 4, variable_vocab = 32;
  int value_vocab = 16;
  std::string filler = "repeat";
  int filler_vocab = 4, depths = 40;

  OptionValues Values() const {
    return {{"length", std::to_string(length)},
            {"chains", std::to_string(chains)},
            {"hops", std::to_string(hops)},
            {"variable_vocab", std::to_string(variable_vocab)},
            {"value_vocab", std::to_string(value_vocab)},
            {"filler", filler},
            {"filler_vocab", std::to_string(filler_vocab)},
            {"depths", std::to_string(depths)}};
  }
  int in_chain() const { return hops + 1; }
  int places() const { return (length - 2 - in_chain()) / 2; }
  int first_filler() const { return 2 + hops; }
  int first_variable() const { return first_filler() + filler_vocab; }
  int first_value() const { return first_variable() + variable_vocab; }
};

// All that the definition says, by running the assignments like a program.
void ExpectIsVariableTracking(const Example& example, const Shape& shape) {
  const DepthGrid grid =
      *DepthGrid::Create("", shape.depths, shape.places(), shape.length);
  std::map<int32_t, int32_t> value_of;  // by variable
  std::map<int32_t, Text> holders;      // by value, in order
  std::map<int32_t, int> assigned_at;
  std::map<int32_t, int> passed_on;
  for (int place = 0; place < shape.places(); ++place) {
    const int32_t variable = example.tokens[2 * place];
    const int32_t source = example.tokens[2 * place + 1];
    if (variable < shape.first_variable()) {
      EXPECT_GE(variable, shape.first_filler());
      EXPECT_TRUE(source >= shape.first_filler() &&
                  source < shape.first_variable());
      continue;
    }
    EXPECT_EQ(grid.PlaceOf(grid.DepthOf(place)), place);
    const bool is_value = source >= shape.first_value();
    EXPECT_TRUE(is_value || value_of.count(source)) << "source is not assigned";
    if (!is_value) ++passed_on[source];
    const int32_t value = is_value ? source : value_of[source];
    EXPECT_EQ(is_value, holders[value].empty());
    EXPECT_TRUE(value_of.emplace(variable, value).second);
    holders[value].push_back(variable);
    assigned_at[variable] = 2 * place;
  }
  EXPECT_EQ(holders.size(), shape.chains);
  for (const auto& [value, variables] : holders) {
    EXPECT_EQ(variables.size(), shape.in_chain());
  }
  for (const auto& [variable, times] : passed_on) EXPECT_EQ(times, 1);

  const int question = shape.length - shape.in_chain();
  for (int t = 0; t < question; ++t) {
    EXPECT_EQ(example.targets[t], kUnscored);
  }
  EXPECT_EQ(example.tokens[question - 2], 0);
  EXPECT_EQ(example.tokens[question - 1], 1);
  const Text& wanted = holders[example.tokens[question]];
  ASSERT_EQ(wanted.size(), shape.in_chain());
  for (int i = 0; i < shape.in_chain(); ++i) {
    EXPECT_EQ(example.targets[question + i], wanted[i]);
    EXPECT_EQ(example.origins[question + i], assigned_at[wanted[i]]);
    if (i > 0) {
      EXPECT_EQ(example.tokens[question + i], 1 + i);
    }
  }
}

std::vector<Shape> Shapes() {
  return {Shape(),
          {128, 3, 2, 9, 3, "random", 16, 50},
          {128, 4, 0, 9, 5, "repeat", 1, 40},
          // Nothing but assignments and the question.
          {17, 2, 2, 6, 2, "repeat", 3, 6},
          {200, 8, 4, 40, 8, "random", 2, 40}};
}

TEST(VariableTrackingTest, ExamplesAreAsDefined) {
  for (const Shape& shape : Shapes()) {
    SCOPED_TRACE(testing::PrintToString(shape.Values()));
    const auto task = MakeTaskOrFail("variable_tracking", shape.Values());
    EXPECT_EQ(task->vocabulary(), shape.first_value() + shape.value_vocab);
    for (uint64_t index = 0; index < 50; ++index) {
      ExpectIsVariableTracking(TrainExample(*task, index), shape);
    }
  }
}

TEST(VariableTrackingTest, AnyRangeIsPartOfTheExample) {
  const Shape shape = {128, 3, 2, 9, 3, "random", 16, 50};
  ExpectRangesArePartsOfTheExample(
      *MakeTaskOrFail("variable_tracking", shape.Values()));
}

TEST(VariableTrackingTest, VocabularyDoesNotDependOnLength) {
  Shape shape;
  const int64_t vocabulary =
      MakeTaskOrFail("variable_tracking", shape.Values())->vocabulary();
  shape.length = 1 << 21;
  EXPECT_EQ(MakeTaskOrFail("variable_tracking", shape.Values())->vocabulary(),
            vocabulary);
}

// Of the chain asked for: any two depths with one before the other, any
// variables and values.
TEST(VariableTrackingTest, DepthsVariablesAndValuesAreUniform) {
  const Shape shape = {32, 2, 1, 8, 6, "repeat", 4, 9};
  const auto task = MakeTaskOrFail("variable_tracking", shape.Values());
  const DepthGrid grid =
      *DepthGrid::Create("", shape.depths, shape.places(), shape.length);
  std::vector<int64_t> depths(9 * 8 / 2), variables(8 * 7), values(6);
  for (uint64_t index = 0; index < 4000; ++index) {
    const Example example = TrainExample(*task, index);
    const int a = static_cast<int>(grid.DepthOf(example.origins[30] / 2));
    const int b = static_cast<int>(grid.DepthOf(example.origins[31] / 2));
    ASSERT_LT(a, b);
    ++depths[b * (b - 1) / 2 + a];
    const int x = example.targets[30] - shape.first_variable();
    const int y = example.targets[31] - shape.first_variable();
    ++variables[7 * x + y - (y > x)];
    ++values[example.tokens[30] - shape.first_value()];
  }
  ExpectUniform(depths);
  ExpectUniform(variables);
  ExpectUniform(values);
}

TEST(VariableTrackingTest, ScoresTheSetOfVariables) {
  const auto task = MakeTaskOrFail("variable_tracking", Shape().Values());
  const Example example = TrainExample(*task, 0);
  Text answer(example.targets.end() - 5, example.targets.end());
  std::swap(answer[0], answer[3]);
  EXPECT_EQ(task->Score(example, answer), 1);
  answer[1] = answer[2];
  EXPECT_DOUBLE_EQ(task->Score(example, answer), 0.8);
  EXPECT_EQ(task->DetailNames(),
            (std::vector<std::string>{"precision", "f1", "exact"}));
  EXPECT_EQ(task->Details(example, answer),
            (std::vector<double>{1, 8.0 / 9, 0}));
}

TEST(VariableTrackingTest, GuessesAreWorthWhatIsClaimed) {
  const Shape shape = {128, 3, 2, 16, 3, "random", 16, 40};
  const auto task = MakeTaskOrFail("variable_tracking", shape.Values());
  EXPECT_DOUBLE_EQ(task->Floors().position, 3.0 / 16);
  EXPECT_DOUBLE_EQ(task->Floors().bag, 1.0 / 3);
  EXPECT_DOUBLE_EQ(task->Floors().ngram, 3.0 / 16);
  Random random(0, StreamId("guesses"));
  ExpectGuessScores(
      *task, 4000, task->ContextGuessScore(), [&](const Example& example) {
        std::set<int32_t> said;
        for (int t = 0; t < shape.length - shape.in_chain(); ++t) {
          const int32_t token = example.tokens[t];
          if (token >= shape.first_variable() && token < shape.first_value()) {
            said.insert(token);
          }
        }
        Text guesses;
        for (int i = 0; i < shape.in_chain(); ++i) {
          guesses.push_back(
              *std::next(said.begin(), random.Below(said.size())));
        }
        return guesses;
      });
  ExpectGuessScores(*task, 4000, task->ChanceScore(), [&](const Example&) {
    Text guesses;
    for (int i = 0; i < shape.in_chain(); ++i) {
      guesses.push_back(shape.first_variable() +
                        random.Below(shape.variable_vocab));
    }
    return guesses;
  });
}

TEST(VariableTrackingTest, TokensHaveTexts) {
  const auto task = MakeTaskOrFail(
      "variable_tracking", Shape{64, 1, 2, 4, 3, "repeat", 2, 9}.Values());
  std::string text;
  for (int32_t token = 0; token < task->vocabulary(); ++token) {
    text += task->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "| = ?2 ?3 _0 _1 x0 x1 x2 x3 v0 v1 v2 ");
}

TEST(VariableTrackingTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("variable_tracking"),
            "quick: length=96 chains=1 hops=2 variable_vocab=16 "
            "value_vocab=16 filler=repeat filler_vocab=4 depths=40\n"
            "smoke: length=24 chains=2 hops=1 variable_vocab=6 value_vocab=2 "
            "filler=repeat filler_vocab=2 depths=10\n"
            "published/ruler-vt: length=4096 chains=1 hops=4 "
            "variable_vocab=1024 value_vocab=1024 filler=repeat "
            "filler_vocab=24 depths=40\n");
}

TEST(VariableTrackingTest, ConstraintsAreNamed) {
  const auto refusal = [](const OptionValues& values) {
    return Refusal("variable_tracking", values);
  };
  EXPECT_EQ(refusal({{"chains", "9"}, {"variable_vocab", "64"}}),
            "variable_tracking: chains=9 of hops=4 are 45 assignments at "
            "different depths, and depths=40");
  EXPECT_EQ(refusal({{"chains", "7"}}),
            "variable_tracking: chains=7 of hops=4 have 35 different "
            "variables, and variable_vocab=32");
  EXPECT_EQ(refusal({{"chains", "6"}, {"value_vocab", "5"}}),
            "variable_tracking: chains=6 have different values, and "
            "value_vocab=5");
  EXPECT_EQ(refusal({{"length", "86"}}),
            "variable_tracking: depths=40 is a grid finer than the length; "
            "length=86 has room for 39 needles");
  EXPECT_TRUE(TryMakeTask("variable_tracking",
                          {{"chains", "8"}, {"variable_vocab", "40"}})
                  .ok());
  EXPECT_TRUE(
      TryMakeTask("variable_tracking", {{"chains", "6"}, {"value_vocab", "6"}})
          .ok());
  EXPECT_TRUE(TryMakeTask("variable_tracking", {{"length", "87"}}).ok());
}

}  // namespace
}  // namespace mneme
