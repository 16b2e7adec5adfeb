// SPDX-License-Identifier: Apache-2.0
//
// What is particular to ListOps. What all tasks have in common is in
// listops_contract_test.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(int length, int depth, int args,
                           const std::string& min_part = "0.25") {
  return MakeTaskOrFail("listops", {{"length", std::to_string(length)},
                                    {"depth", std::to_string(depth)},
                                    {"args", std::to_string(args)},
                                    {"min_part", min_part}});
}

// What an expression is made of, for counting.
struct Statistics {
  int depth = 0;      // levels, digits counted
  int most_args = 0;  // of one operator
  std::map<std::string, int64_t> operators;
  std::map<int, int64_t> args;  // how many operators have so many
  std::vector<int64_t> digits = std::vector<int64_t>(10);
};

// Evaluates the expression that begins at *t by its texts, and moves *t behind
// it.
int Evaluate(const Task& task, const Example& e, size_t* t, int depth,
             Statistics* statistics) {
  statistics->depth = std::max(statistics->depth, depth);
  const std::string op = task.TokenText(e.tokens.at((*t)++));
  if (op[0] != '[') {
    EXPECT_EQ(op.size(), 1);
    EXPECT_TRUE('0' <= op[0] && op[0] <= '9') << op;
    if (depth > 1) ++statistics->digits[op[0] - '0'];
    return op[0] - '0';
  }
  std::vector<int> args;
  while (task.TokenText(e.tokens.at(*t)) != "]") {
    args.push_back(Evaluate(task, e, t, depth + 1, statistics));
  }
  ++*t;
  ++statistics->operators[op];
  ++statistics->args[args.size()];
  statistics->most_args = std::max<int>(statistics->most_args, args.size());
  EXPECT_GE(args.size(), 2);
  std::sort(args.begin(), args.end());
  if (op == "[MIN") return args.front();
  if (op == "[MAX") return args.back();
  if (op == "[SM") return std::accumulate(args.begin(), args.end(), 0) % 10;
  EXPECT_EQ(op, "[MED");
  const size_t n = args.size();
  return n % 2 == 1 ? args[n / 2] : (args[n / 2 - 1] + args[n / 2]) / 2;
}

// Expects the form of an example and the value it asks for; returns the tokens
// of its expression.
int ExpectIsListOps(const Task& task, const Example& e,
                    Statistics* statistics) {
  size_t t = 0;
  for (; e.tokens[t] == 0; ++t) EXPECT_EQ(e.roles[t], TokenRole::kFiller);
  const size_t begin = t;
  const int value = Evaluate(task, e, &t, 1, statistics);
  EXPECT_EQ(t, e.tokens.size() - 1);
  EXPECT_EQ(task.TokenText(e.tokens[t]), "=");
  EXPECT_EQ(task.TokenText(e.targets[t]), std::to_string(value));
  EXPECT_EQ(e.roles[t], TokenRole::kQuery);
  for (size_t u = 0; u < t; ++u) {
    EXPECT_EQ(e.targets[u], kUnscored);
    if (u >= begin) {
      EXPECT_EQ(e.roles[u], TokenRole::kContext);
    }
  }
  return t - begin;
}

TEST(ListOpsTest, ExamplesAreAsDefined) {
  struct Case {
    int length, depth, args;
    const char* min_part;
    int least;
  };
  for (const Case& c : std::vector<Case>{{64, 4, 5, "0.25", 17},
                                         {24, 3, 4, "0.25", 7},
                                         {2000, 10, 10, "0.25", 501},
                                         {5, 2, 2, "0.5", 3},
                                         {40, 2, 33, "0.5", 21},
                                         {64, 10, 2, "0.1", 7}}) {
    SCOPED_TRACE(testing::Message() << "length " << c.length << ", depth "
                                    << c.depth << ", args " << c.args);
    const std::unique_ptr<Task> task =
        Make(c.length, c.depth, c.args, c.min_part);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), 17);
    Statistics all;
    for (uint64_t index = 0; index < 100; ++index) {
      const int size = ExpectIsListOps(*task, TrainExample(*task, index), &all);
      EXPECT_TRUE(c.least <= size && size < c.length) << size;
    }
    EXPECT_LE(all.depth, c.depth);
    EXPECT_LE(all.most_args, c.args);
  }
}

// Where no size is refused, nodes are what the definition says.
TEST(ListOpsTest, NodesAreDrawnAsDefined) {
  const std::unique_ptr<Task> task = Make(40, 3, 5, "0");
  Statistics all;
  std::vector<int64_t> root(2);  // a digit, or an operator
  for (uint64_t index = 0; index < 20000; ++index) {
    const Example e = TrainExample(*task, index);
    ++root[ExpectIsListOps(*task, e, &all) > 1];
  }
  ExpectFits({0.75, 0.25}, root);
  ASSERT_EQ(all.operators.size(), 4);
  std::vector<int64_t> operators, args;
  for (const auto& [op, count] : all.operators) operators.push_back(count);
  for (const auto& [n, count] : all.args) args.push_back(count);
  ExpectUniform(operators);
  ASSERT_EQ(args.size(), 4);
  ExpectUniform(args);
  ExpectUniform(all.digits);
}

TEST(ListOpsTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(64, 4, 5);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 0.1);
  // A digit that does not look at the values.
  ExpectGuessScores(*task, 5000, 0.1, [](const Example& e) {
    return std::vector<int32_t>{
        7 + std::accumulate(e.tokens.begin(), e.tokens.end(), 0) % 10};
  });
}

TEST(ListOpsTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make(64, 4, 5);
  std::string texts;
  for (int32_t token = 0; token < 17; ++token) texts += task->TokenText(token);
  EXPECT_EQ(texts, "_=][MIN[MAX[MED[SM0123456789");
}

TEST(ListOpsTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("listops"),
            "quick: length=64 depth=4 args=5 min_part=0.25\n"
            "smoke: length=24 depth=3 args=4 min_part=0.25\n"
            "published/lra: length=2000 depth=10 args=10 min_part=0.25\n");
}

TEST(ListOpsTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("listops", {{"length", "512"}, {"depth", "2"}}),
            "listops: hardly any expression of depth=2 and args=5 has 129..511 "
            "tokens (min_part * length to length - 1)");
  EXPECT_EQ(Refusal("listops", {{"min_part", "1"}}),
            "listops: hardly any expression of depth=4 and args=5 has 65..63 "
            "tokens (min_part * length to length - 1)");
  EXPECT_EQ(Refusal("listops", {{"depth", "1"}}),
            "option \"depth\": \"1\" is not an integer in 2..64");
}

}  // namespace
}  // namespace mneme
