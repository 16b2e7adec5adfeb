// SPDX-License-Identifier: Apache-2.0
//
// What is particular to the word problem, and the groups it is posed in. What
// all tasks have in common is in group_word_contract_test.

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/group_word/finite_group.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, const std::string& group) {
  return MakeTaskOrFail("group_word",
                        {{"length", std::to_string(length)}, {"group", group}});
}

TEST(FiniteGroupTest, TablesAreGroups) {
  for (const std::string& name : FiniteGroupNames()) {
    SCOPED_TRACE(name);
    const FiniteGroup g = MakeFiniteGroup(name);
    ASSERT_EQ(g.order, name == "S5" ? 120 : 60);
    ASSERT_EQ(g.products.size(), g.order * g.order);
    EXPECT_EQ(std::set<std::string>(g.names.begin(), g.names.end()).size(),
              g.order);
    for (int32_t a = 0; a < g.order; ++a) {
      EXPECT_EQ(g.Product(0, a), a);
      EXPECT_EQ(g.Product(a, 0), a);
      std::set<int32_t> row, column;
      for (int32_t b = 0; b < g.order; ++b) {
        row.insert(g.Product(a, b));
        column.insert(g.Product(b, a));
      }
      EXPECT_EQ(row.size(), g.order) << "an element is not invertible";
      EXPECT_EQ(column.size(), g.order);
    }
    bool associative = true;
    for (int32_t a = 0; a < g.order; ++a) {
      for (int32_t b = 0; b < g.order; ++b) {
        for (int32_t c = 0; c < g.order; ++c) {
          associative &=
              g.Product(g.Product(a, b), c) == g.Product(a, g.Product(b, c));
        }
      }
    }
    EXPECT_TRUE(associative);
  }
}

// How many elements have which order tells the four groups apart.
TEST(FiniteGroupTest, ElementsHaveTheOrdersOfTheGroup) {
  const auto orders = [](const std::string& name) {
    const FiniteGroup g = MakeFiniteGroup(name);
    std::vector<int> count(61);
    for (int32_t a = 0; a < g.order; ++a) {
      int order = 1;
      for (int32_t power = a; power != 0; power = g.Product(power, a)) ++order;
      ++count[order];
    }
    std::string text;
    for (int order = 1; order <= 60; ++order) {
      if (count[order] == 0) continue;
      text += std::to_string(order) + ":" + std::to_string(count[order]) + " ";
    }
    return text;
  };
  EXPECT_EQ(orders("A5"), "1:1 2:15 3:20 5:24 ");
  EXPECT_EQ(orders("S5"), "1:1 2:25 3:20 4:30 5:24 6:20 ");
  EXPECT_EQ(orders("Z60"),
            "1:1 2:1 3:2 4:2 5:4 6:2 10:4 12:4 15:8 20:8 30:8 60:16 ");
  EXPECT_EQ(orders("A4xZ5"), "1:1 2:3 3:8 5:4 10:12 15:32 ");
}

TEST(FiniteGroupTest, CommutatorsAreKnown) {
  EXPECT_EQ(CommutatorSubgroupOrder(MakeFiniteGroup("A5")), 60);
  EXPECT_EQ(CommutatorSubgroupOrder(MakeFiniteGroup("S5")), 60);  // A5
  EXPECT_EQ(CommutatorSubgroupOrder(MakeFiniteGroup("Z60")), 1);
  EXPECT_EQ(CommutatorSubgroupOrder(MakeFiniteGroup("A4xZ5")), 4);  // Klein's
}

// The names say what the elements are, so products can be taken from them.
TEST(FiniteGroupTest, NamesMultiplyAsPermutationsFromLeftToRight) {
  const FiniteGroup g = MakeFiniteGroup("S5");
  for (int32_t a = 0; a < g.order; ++a) {
    for (int32_t b = 0; b < g.order; ++b) {
      std::string expected;
      for (const char x : g.names[a]) expected += g.names[b][x - '1'];
      ASSERT_EQ(g.names[g.Product(a, b)], expected);
    }
  }
}

TEST(GroupWordTest, TargetsAreProductsOfAllBefore) {
  for (const std::string& group : FiniteGroupNames()) {
    const FiniteGroup g = MakeFiniteGroup(group);
    const std::unique_ptr<Task> task = Make(33, group);
    EXPECT_EQ(task->vocabulary(), g.order);
    EXPECT_EQ(task->length(), 33);
    for (uint64_t index = 0; index < 20; ++index) {
      const Example e = TrainExample(*task, index);
      for (int t = 0; t < 33; ++t) {
        // From the right this time: g1 (g2 (... gt)).
        int32_t product = 0;
        for (int i = t; i >= 0; --i) product = g.Product(e.tokens[i], product);
        ASSERT_EQ(e.targets[t], product);
        ASSERT_EQ(e.roles[t], TokenRole::kQuery);
      }
    }
  }
}

TEST(GroupWordTest, FactorsAndProductsAreUniform) {
  const std::unique_ptr<Task> task = Make(5, "A5");
  std::vector<int64_t> factors(60), products(60);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    for (const int32_t factor : e.tokens) ++factors[factor];
    ++products[e.targets[4]];
  }
  ExpectUniform(factors);
  ExpectUniform(products);
}

TEST(GroupWordTest, DetailsAreTheWordAndItsEnd) {
  const std::unique_ptr<Task> task = Make(8, "Z60");
  ASSERT_EQ(task->DetailNames(),
            (std::vector<std::string>{"sequence", "last"}));
  const Example e = TrainExample(*task, 0);
  std::vector<int32_t> predictions = e.targets;
  EXPECT_EQ(task->Details(e, predictions), (std::vector<double>{1, 1}));
  predictions[3] = (predictions[3] + 1) % 60;
  EXPECT_EQ(task->Details(e, predictions), (std::vector<double>{0, 1}));
  EXPECT_EQ(task->Score(e, predictions), 7.0 / 8);
  predictions[7] = (predictions[7] + 1) % 60;
  EXPECT_EQ(task->Details(e, predictions), (std::vector<double>{0, 0}));
}

TEST(GroupWordTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(8, "S5");
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 120);
  ExpectGuessScores(*task, 5000, task->ChanceScore(),
                    [](const Example&) { return std::vector<int32_t>(8, 17); });
  // An abelian product does not ask for the order of its factors.
  EXPECT_DOUBLE_EQ(Make(8, "Z60")->Floors().bag, 1);
  EXPECT_DOUBLE_EQ(Make(8, "A4xZ5")->Floors().bag, (4 + 4 / 4.0) / 8);
  EXPECT_DOUBLE_EQ(Make(8, "A5")->Floors().ngram, (3 + 5 / 60.0) / 8);
  EXPECT_DOUBLE_EQ(Make(2, "A5")->Floors().ngram, 1);
}

TEST(GroupWordTest, TokensHaveTexts) {
  EXPECT_EQ(Make(8, "A5")->TokenText(0), "12345");
  EXPECT_EQ(Make(8, "A5")->TokenText(1), "12453");
  EXPECT_EQ(Make(8, "Z60")->TokenText(59), "z59");
  EXPECT_EQ(Make(8, "A4xZ5")->TokenText(59), "4321,4");
}

TEST(GroupWordTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("group_word"),
            "quick: length=16 group=A5\n"
            "smoke: length=6 group=A5\n"
            "published/illusion_of_state: length=20 group=A5\n"
            "published/illusion_of_state_s5: length=20 group=S5\n"
            "published/illusion_of_state_z60: length=20 group=Z60\n"
            "published/illusion_of_state_a4xz5: length=20 group=A4xZ5\n");
}

TEST(GroupWordTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("group_word", {{"length", "0"}}),
            "option \"length\": \"0\" is not an integer in 1..1048576");
}

}  // namespace
}  // namespace mneme
