// SPDX-License-Identifier: Apache-2.0
//
// What is particular to needles in a haystack. What all tasks have in common is
// in needle_contract_test.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/depth_grid.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

using Text = std::vector<int32_t>;

// A shape with alphabets that are told apart by their tokens.
struct Shape {
  int length = 128, keys = 4, values = 1, queries = 4;
  int key_tokens = 1, key_vocab = 16, value_tokens = 1, value_vocab = 32;
  std::string filler = "random";
  int filler_vocab = 16, depths = 40;

  OptionValues Values() const {
    return {{"length", std::to_string(length)},
            {"keys", std::to_string(keys)},
            {"values", std::to_string(values)},
            {"queries", std::to_string(queries)},
            {"key_tokens", std::to_string(key_tokens)},
            {"key_vocab", std::to_string(key_vocab)},
            {"value_tokens", std::to_string(value_tokens)},
            {"value_vocab", std::to_string(value_vocab)},
            {"filler", filler},
            {"filler_vocab", std::to_string(filler_vocab)},
            {"depths", std::to_string(depths)}};
  }
  int answer() const { return values * value_tokens; }
  int question() const { return key_tokens + answer(); }
  int needle() const { return key_tokens + value_tokens; }
  int end() const { return length - 1 - queries * question(); }
  int places() const { return end() / needle(); }
  int first_filler() const { return 1 + answer(); }
  int first_key() const { return first_filler() + filler_vocab; }
  int first_value() const { return first_key() + key_vocab; }
  int vocabulary() const { return first_value() + value_vocab; }

  char Kind(int32_t token) const {
    if (token < first_filler()) return '?';
    if (token < first_key()) return '_';
    return token < first_value() ? 'k' : 'v';
  }
};

Text Part(const Example& example, int first, int count) {
  return Text(example.tokens.begin() + first,
              example.tokens.begin() + first + count);
}

// All that the definition says of one example, found by reading its text.
void ExpectIsNeedle(const Example& example, const Shape& shape) {
  const DepthGrid grid =
      *DepthGrid::Create("", shape.depths, shape.places(), shape.length);
  std::set<int> on_grid;
  for (int depth = 0; depth < shape.depths; ++depth) {
    on_grid.insert(grid.PlaceOf(depth));
  }
  // What each key is said to have, in order, with the places.
  std::map<Text, std::vector<Text>> values_of;
  std::map<Text, std::vector<int>> places_of;
  for (int place = 0; place < shape.places(); ++place) {
    const int at = place * shape.needle();
    if (shape.Kind(example.tokens[at]) == '_') {
      for (const int32_t token : Part(example, at, shape.needle())) {
        EXPECT_EQ(shape.Kind(token), '_');
      }
      EXPECT_NE(shape.filler, "needles");
      continue;
    }
    const Text key = Part(example, at, shape.key_tokens);
    const Text value = Part(example, at + shape.key_tokens, shape.value_tokens);
    for (const int32_t token : key) EXPECT_EQ(shape.Kind(token), 'k');
    for (const int32_t token : value) EXPECT_EQ(shape.Kind(token), 'v');
    values_of[key].push_back(value);
    places_of[key].push_back(place);
  }
  for (int t = shape.places() * shape.needle(); t < shape.end(); ++t) {
    EXPECT_EQ(shape.Kind(example.tokens[t]), '_');
  }
  if (shape.filler != "needles") {
    EXPECT_EQ(values_of.size(), shape.keys);
    std::set<Text> all;
    for (const auto& [key, values] : values_of) {
      EXPECT_EQ(values.size(), shape.values);
      all.insert(values.begin(), values.end());
      for (const int place : places_of[key]) {
        EXPECT_TRUE(on_grid.count(place)) << place;
      }
    }
    EXPECT_EQ(all.size(), shape.keys * shape.values);
  }

  for (int t = 0; t < shape.end(); ++t) {
    EXPECT_EQ(example.targets[t], kUnscored);
    EXPECT_EQ(example.origins[t], kNowhere);
  }
  EXPECT_EQ(example.tokens[shape.end()], 0);
  std::set<Text> asked;
  for (int query = 0; query < shape.queries; ++query) {
    const int at = shape.end() + 1 + query * shape.question();
    EXPECT_EQ(example.tokens[at], 1);
    const Text key = Part(example, at + 1, shape.key_tokens);
    EXPECT_TRUE(asked.insert(key).second) << "a key is asked for twice";
    ASSERT_EQ(values_of[key].size(), shape.values);
    int t = at + shape.key_tokens;
    for (int scored_before = at; scored_before < t; ++scored_before) {
      EXPECT_EQ(example.targets[scored_before], kUnscored);
    }
    int slot = 1;
    for (int i = 0; i < shape.values; ++i) {
      const int place = places_of[key][i];
      EXPECT_TRUE(on_grid.count(place));
      for (int j = 0; j < shape.value_tokens; ++j, ++t) {
        EXPECT_EQ(example.targets[t], values_of[key][i][j]);
        EXPECT_EQ(example.origins[t],
                  place * shape.needle() + shape.key_tokens + j);
        if (t > at + shape.key_tokens) {
          EXPECT_EQ(example.tokens[t], ++slot);
        }
      }
    }
  }
}

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes(10);
  shapes[1] = {100, 1, 1, 1, 1, 16, 1, 32, "repeat", 4, 40};
  shapes[2] = {200, 1, 1, 1, 1, 16, 4, 5, "random", 16, 30};
  shapes[3] = {128, 4, 1, 1};
  shapes[4] = {128, 1, 1, 1, 1, 64, 1, 32, "needles", 1, 40};
  shapes[5] = {200, 2, 1, 2, 3, 4, 2, 8, "needles", 3, 20};
  shapes[6] = {128, 1, 4, 1};
  shapes[7] = {400, 3, 3, 2, 2, 4, 3, 4, "repeat", 5, 11};
  // Nothing but needles and the question.
  shapes[8] = {13, 4, 1, 2, 1, 4, 1, 4, "repeat", 1, 4};
  // One key is left for the others, and none too many for the values.
  shapes[9] = {30, 3, 1, 3, 1, 4, 1, 3, "needles", 1, 10};
  return shapes;
}

TEST(NeedleTest, ExamplesAreAsDefined) {
  for (const Shape& shape : Shapes()) {
    SCOPED_TRACE(testing::PrintToString(shape.Values()));
    const auto task = MakeTaskOrFail("needle", shape.Values());
    EXPECT_EQ(task->vocabulary(), shape.vocabulary());
    for (uint64_t index = 0; index < 50; ++index) {
      const Example example = TrainExample(*task, index);
      ASSERT_EQ(example.tokens.size(), shape.length);
      ExpectIsNeedle(example, shape);
    }
  }
}

// The vocabulary is the same at all lengths, so that models can be tested at
// others than they were trained at.
TEST(NeedleTest, VocabularyDoesNotDependOnLength) {
  Shape shape;
  const int64_t vocabulary =
      MakeTaskOrFail("needle", shape.Values())->vocabulary();
  shape.length *= 1 << 14;
  const auto task = MakeTaskOrFail("needle", shape.Values());
  EXPECT_EQ(task->length(), 1 << 21);
  EXPECT_EQ(task->vocabulary(), vocabulary);
}

TEST(NeedleTest, AnyRangeIsPartOfTheExample) {
  for (const Shape& shape : Shapes()) {
    ExpectRangesArePartsOfTheExample(*MakeTaskOrFail("needle", shape.Values()));
  }
}

TEST(NeedleTest, DepthsKeysAndValuesAreUniform) {
  Shape shape;
  shape.keys = 2;
  shape.queries = 2;
  const auto task = MakeTaskOrFail("needle", shape.Values());
  const DepthGrid grid = *DepthGrid::Create("", 40, shape.places(), 128);
  // Of the first and of the second query.
  std::vector<int64_t> depths[2], keys[2], values[2], pairs(40 * 40);
  for (int query = 0; query < 2; ++query) {
    depths[query].resize(40);
    keys[query].resize(16);
    values[query].resize(32);
  }
  int64_t equal_keys = 0;
  for (uint64_t index = 0; index < 4000; ++index) {
    const Example example = TrainExample(*task, index);
    for (int query = 0; query < 2; ++query) {
      const int at = shape.end() + 2 + query * shape.question();
      ++depths[query][grid.DepthOf(example.origins[at] / 2)];
      ++keys[query][example.tokens[at] - shape.first_key()];
      ++values[query][example.targets[at] - shape.first_value()];
    }
    equal_keys += example.tokens[shape.end() + 2] ==
                  example.tokens[shape.end() + 2 + shape.question()];
  }
  EXPECT_EQ(equal_keys, 0);
  for (int query = 0; query < 2; ++query) {
    ExpectUniform(depths[query]);
    ExpectUniform(keys[query]);
    ExpectUniform(values[query]);
  }
}

// Accuracy is drawn by 40 equal parts of the sequence, question included. Where
// the question is short beside it, each depth has a part of its own.
TEST(NeedleTest, DepthsAreTheFortiethsOfLongSequences) {
  const auto task = MakeTaskOrFail("needle", Shape{4096, 1, 1, 1}.Values());
  const DepthGrid grid = *DepthGrid::Create(
      "", 40, Shape{4096, 1, 1, 1}.places(), /*length=*/4096);
  std::vector<int64_t> parts(40);
  for (uint64_t index = 0; index < 1000; ++index) {
    const int origin = TrainExample(*task, index).origins.back();
    EXPECT_EQ(origin * 40 / 4096, grid.DepthOf(origin / 2));
    ++parts[origin * 40 / 4096];
  }
  ExpectUniform(parts);
}

TEST(NeedleTest, OtherNeedlesAreUniform) {
  const Shape shape = {64, 1, 1, 1, 2, 3, 1, 5, "needles", 1, 4};
  const auto task = MakeTaskOrFail("needle", shape.Values());
  // Keys by how far they come after the one that is asked for, of 9.
  std::vector<int64_t> keys(8), values(5);
  const auto number = [&](const Example& example, int at) {
    return example.tokens[at] - shape.first_key() +
           3 * (example.tokens[at + 1] - shape.first_key());
  };
  for (uint64_t index = 0; index < 1000; ++index) {
    const Example example = TrainExample(*task, index);
    const int asked = number(example, shape.end() + 2);
    for (int place = 0; place < shape.places(); ++place) {
      const int key = number(example, 3 * place);
      if (key == asked) continue;
      ++keys[(key - asked + 9) % 9 - 1];
      ++values[example.tokens[3 * place + 2] - shape.first_value()];
    }
  }
  ExpectUniform(keys);
  ExpectUniform(values);
}

// Two queries for two values of two tokens: a b | c d, e f | g h.
TEST(NeedleTest, ScoresTheValuesFoundOfEachKey) {
  const auto task = MakeTaskOrFail(
      "needle", Shape{200, 2, 2, 2, 1, 4, 2, 9, "repeat", 1, 8}.Values());
  EXPECT_EQ(task->DetailNames(), (std::vector<std::string>{"exact", "tokens"}));
  const Example example = TrainExample(*task, 0);
  Text right;
  for (const int32_t target : example.targets) {
    if (target != kUnscored) right.push_back(target);
  }
  ASSERT_EQ(right.size(), 8);
  const auto pick = [&](const std::vector<int>& from) {
    Text answer;
    for (const int i : from) answer.push_back(i < 0 ? 0 : right[i]);
    return answer;
  };
  struct Case {
    std::vector<int> answer;
    double score, exact, tokens;
  };
  for (const Case& c : std::vector<Case>{
           {{0, 1, 2, 3, 4, 5, 6, 7}, 1, 1, 1},
           {{2, 3, 0, 1, 4, 5, 6, 7}, 1, 1, 0.5},         // in any order
           {{0, 1, 0, 1, 4, 5, 6, 7}, 0.75, 0, 0.75},     // one said twice
           {{0, -1, 2, 3, 4, 5, 6, 7}, 0.75, 0, 0.875},   // half a value
           {{4, 5, 6, 7, 0, 1, 2, 3}, 0, 0, 0},           // of the other key
           {{-1, -1, -1, -1, -1, -1, 4, 5}, 0.25, 0, 0},  // one found
       }) {
    SCOPED_TRACE(testing::PrintToString(c.answer));
    // Some tokens of different values can be equal by chance.
    EXPECT_DOUBLE_EQ(task->Score(example, pick(c.answer)), c.score);
    const std::vector<double> details = task->Details(example, pick(c.answer));
    EXPECT_EQ(details[0], c.exact);
    EXPECT_GE(details[1], c.tokens);
  }
}

TEST(NeedleTest, GuessesAreWorthWhatIsClaimed) {
  const auto task = MakeTaskOrFail("needle", Shape().Values());
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 32);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 4);
  EXPECT_DOUBLE_EQ(task->Floors().position, 1.0 / 32);
  EXPECT_DOUBLE_EQ(task->Floors().bag, 1.0 / 4);
  EXPECT_DOUBLE_EQ(task->Floors().ngram, 1.0 / 32);
  EXPECT_DOUBLE_EQ(
      MakeTaskOrFail("needle", Shape{128, 1, 1, 1}.Values())->Floors().bag, 1);

  // Guesses by draws: of the values in the context, and of all there are.
  for (const Shape& shape : {Shape(), Shape{128, 2, 3, 1},
                             Shape{64, 1, 2, 1, 1, 8, 1, 4, "needles", 1, 9}}) {
    SCOPED_TRACE(testing::PrintToString(shape.Values()));
    const auto task = MakeTaskOrFail("needle", shape.Values());
    Random random(0, StreamId("guesses"));
    const size_t answers = shape.queries * shape.answer();
    ExpectGuessScores(*task, 4000, task->ContextGuessScore(),
                      [&](const Example& example) {
                        Text said, guesses;
                        for (int t = 0; t < shape.end(); ++t) {
                          const int32_t token = example.tokens[t];
                          if (shape.Kind(token) == 'v') said.push_back(token);
                        }
                        while (guesses.size() < answers) {
                          guesses.push_back(said[random.Below(said.size())]);
                        }
                        return guesses;
                      });
    ExpectGuessScores(*task, 4000, task->ChanceScore(), [&](const Example&) {
      Text guesses;
      while (guesses.size() < answers) {
        guesses.push_back(shape.first_value() +
                          random.Below(shape.value_vocab));
      }
      return guesses;
    });
  }
}

TEST(NeedleTest, TokensHaveTexts) {
  const auto task = MakeTaskOrFail(
      "needle", Shape{200, 1, 1, 1, 1, 16, 3, 8, "random", 16, 40}.Values());
  std::string text;
  for (const int32_t token : {0, 1, 2, 3, 4, 19, 20, 35, 36, 43}) {
    text += task->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "| = ?2 ?3 _0 _15 k0 k15 v0 v7 ");
}

TEST(NeedleTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(
      ProfilesText("needle"),
      "quick: length=96 keys=4 values=1 queries=4 key_tokens=1 key_vocab=8 "
      "value_tokens=1 value_vocab=16 filler=random filler_vocab=4 depths=40\n"
      "smoke: length=16 keys=2 values=1 queries=1 key_tokens=1 key_vocab=4 "
      "value_tokens=1 value_vocab=4 filler=random filler_vocab=2 depths=5\n"
      "published/ruler-niah_single_1: length=4096 keys=1 values=1 queries=1 "
      "key_tokens=1 key_vocab=1024 value_tokens=1 value_vocab=1024 "
      "filler=repeat filler_vocab=24 depths=40\n"
      "published/ruler-niah_single_2: length=4096 keys=1 values=1 queries=1 "
      "key_tokens=1 key_vocab=1024 value_tokens=1 value_vocab=1024 "
      "filler=random filler_vocab=1024 depths=40\n"
      "published/ruler-niah_single_3: length=4096 keys=1 values=1 queries=1 "
      "key_tokens=1 key_vocab=1024 value_tokens=8 value_vocab=64 "
      "filler=random filler_vocab=1024 depths=40\n"
      "published/ruler-niah_multikey_1: length=4096 keys=4 values=1 queries=1 "
      "key_tokens=1 key_vocab=1024 value_tokens=1 value_vocab=1024 "
      "filler=random filler_vocab=1024 depths=40\n"
      "published/ruler-niah_multikey_2: length=4096 keys=1 values=1 queries=1 "
      "key_tokens=1 key_vocab=1024 value_tokens=1 value_vocab=1024 "
      "filler=needles filler_vocab=1024 depths=40\n"
      "published/ruler-niah_multikey_3: length=4096 keys=1 values=1 queries=1 "
      "key_tokens=8 key_vocab=64 value_tokens=8 value_vocab=64 "
      "filler=needles filler_vocab=1024 depths=40\n"
      "published/ruler-niah_multivalue: length=4096 keys=1 values=4 queries=1 "
      "key_tokens=1 key_vocab=1024 value_tokens=1 value_vocab=1024 "
      "filler=random filler_vocab=1024 depths=40\n"
      "published/ruler-niah_multiquery: length=4096 keys=4 values=1 queries=4 "
      "key_tokens=1 key_vocab=1024 value_tokens=1 value_vocab=1024 "
      "filler=random filler_vocab=1024 depths=40\n");
}

TEST(NeedleTest, ConstraintsAreNamed) {
  const auto refusal = [](const OptionValues& values) {
    return Refusal("needle", values);
  };
  EXPECT_EQ(refusal({{"queries", "5"}}),
            "needle: queries=5 ask for different keys, and keys=4");
  EXPECT_EQ(refusal({{"values", "11"}}),
            "needle: keys=4 with values=11 each are 44 needles at different "
            "depths, and depths=40");
  EXPECT_EQ(refusal({{"key_tokens", "7"}, {"key_vocab", "128"}}),
            "needle: key_vocab^key_tokens = 128^7 is more than 2^48");
  EXPECT_EQ(refusal({{"value_tokens", "7"}, {"value_vocab", "128"}}),
            "needle: value_vocab^value_tokens = 128^7 is more than 2^48");
  EXPECT_EQ(refusal({{"key_vocab", "3"}}),
            "needle: keys=4 need 4 different keys, and key_vocab^key_tokens = "
            "3^1");
  EXPECT_EQ(refusal({{"key_vocab", "4"}, {"filler", "needles"}}),
            "needle: keys=4 need 5 different keys, and key_vocab^key_tokens = "
            "4^1");
  EXPECT_EQ(refusal({{"values", "9"}}),
            "needle: keys=4 with values=9 each need 36 different values, and "
            "value_vocab^value_tokens = 16^1");
  EXPECT_EQ(refusal({{"length", "88"}}),
            "needle: depths=40 is a grid finer than the length; length=88 has "
            "room for 39 needles");
  // One step to the right side of each.
  for (const OptionValues& values : std::vector<OptionValues>{
           {{"values", "10"}, {"value_vocab", "64"}, {"length", "256"}},
           {{"key_tokens", "6"}, {"key_vocab", "256"}, {"length", "512"}},
           {{"key_vocab", "4"}},
           {{"key_vocab", "5"}, {"filler", "needles"}},
           {{"values", "4"}, {"length", "256"}},
           {{"length", "89"}}}) {
    EXPECT_TRUE(TryMakeTask("needle", values).ok())
        << testing::PrintToString(values);
  }
}

}  // namespace
}  // namespace mneme
