// SPDX-License-Identifier: Apache-2.0
//
// What is particular to passkey retrieval. What all tasks have in common is in
// passkey_contract_test.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/depth_grid.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

using Text = std::vector<int32_t>;

struct Shape {
  int length = 128, digits = 1, digit_vocab = 32, times = 1, sentence = 4;
  std::string place = "any";
  int depths = 40;

  OptionValues Values() const {
    return {{"length", std::to_string(length)},
            {"digits", std::to_string(digits)},
            {"digit_vocab", std::to_string(digit_vocab)},
            {"times", std::to_string(times)},
            {"sentence", std::to_string(sentence)},
            {"place", place},
            {"depths", std::to_string(depths)}};
  }
  int first_filler() const { return 3 + digits; }
  int first_digit() const { return first_filler() + sentence; }
  int needle() const { return times * (1 + digits); }
  int places() const { return (length - 2 - digits) / needle(); }
};

// All that the definition says, by writing the example anew around the passkey
// that is found in it.
void ExpectIsPasskey(const Example& example, const Shape& shape) {
  const auto begin = example.tokens.begin();
  const int at =
      static_cast<int>(std::find(begin, example.tokens.end(), 2) - begin);
  ASSERT_LE(at + shape.needle(), shape.length);
  const Text passkey(begin + at + 1, begin + at + 1 + shape.digits);
  Text tokens, targets(shape.length, kUnscored),
      origins(shape.length, kNowhere);
  for (int t = 0; t < shape.length; ++t) {
    tokens.push_back(shape.first_filler() + t % shape.sentence);
  }
  int t = at;
  for (int time = 0; time < shape.times; ++time) {
    tokens[t++] = 2;
    for (const int32_t digit : passkey) tokens[t++] = digit;
  }
  const int said = t - shape.digits;
  t = shape.length - shape.digits;
  tokens[t - 2] = 0;
  tokens[t - 1] = 1;
  for (int i = 0; i < shape.digits; ++i) {
    EXPECT_GE(passkey[i], shape.first_digit());
    tokens[t + i] = 3 + i;
    targets[t + i] = passkey[i];
    origins[t + i] = said + i;
  }
  EXPECT_EQ(example.tokens, tokens);
  EXPECT_EQ(example.targets, targets);
  EXPECT_EQ(example.origins, origins);
}

std::vector<Shape> Shapes() {
  return {Shape(),
          {100, 3, 10, 1, 1, "any", 20},
          {100, 2, 10, 3, 7, "any", 5},
          {16, 1, 2, 1, 2, "any", 6},
          {5, 1, 2, 1, 3, "any", 1},
          {128, 1, 32, 1, 4, "middle", 40}};
}

TEST(PasskeyTest, ExamplesAreAsDefined) {
  for (const Shape& shape : Shapes()) {
    SCOPED_TRACE(testing::PrintToString(shape.Values()));
    const auto task = MakeTaskOrFail("passkey", shape.Values());
    EXPECT_EQ(task->vocabulary(), shape.first_digit() + shape.digit_vocab);
    for (uint64_t index = 0; index < 50; ++index) {
      ExpectIsPasskey(TrainExample(*task, index), shape);
    }
  }
}

TEST(PasskeyTest, AnyRangeIsPartOfTheExample) {
  for (const Shape& shape : Shapes()) {
    ExpectRangesArePartsOfTheExample(
        *MakeTaskOrFail("passkey", shape.Values()));
  }
}

// The end of two million tokens is there without the beginning, and says what
// stands far before it.
TEST(PasskeyTest, ReachesAsFarAsItSays) {
  Shape shape;
  const int64_t vocabulary =
      MakeTaskOrFail("passkey", shape.Values())->vocabulary();
  shape.length = 1 << 21;
  const auto task = MakeTaskOrFail("passkey", shape.Values());
  EXPECT_EQ(task->vocabulary(), vocabulary);
  Example end, there;
  task->GenerateRange(Split::kTest, 0, 0, shape.length - 3, 3, &end);
  EXPECT_EQ(end.tokens, (Text{0, 1, 3}));
  task->GenerateRange(Split::kTest, 0, 0, end.origins[2] - 1, 2, &there);
  EXPECT_EQ(there.tokens, (Text{2, end.targets[2]}));
  EXPECT_LE(there.tokens.capacity(), 64);
}

TEST(PasskeyTest, DepthsAndDigitsAreUniform) {
  const Shape shape = {128, 2, 8, 1, 4, "any", 40};
  const auto task = MakeTaskOrFail("passkey", shape.Values());
  const DepthGrid grid = *DepthGrid::Create("", 40, shape.places(), 128);
  std::vector<int64_t> depths(40), pairs(64);
  for (uint64_t index = 0; index < 4000; ++index) {
    const Example example = TrainExample(*task, index);
    const int place = (example.origins[126] - 1) / shape.needle();
    const int depth = static_cast<int>(grid.DepthOf(place));
    EXPECT_EQ(grid.PlaceOf(depth), place);
    ++depths[depth];
    ++pairs[8 * (example.targets[126] - shape.first_digit()) +
            example.targets[127] - shape.first_digit()];
  }
  ExpectUniform(depths);
  ExpectUniform(pairs);
}

TEST(PasskeyTest, PlacesAreTheStartTheMiddleAndTheEnd) {
  const auto origin = [](const std::string& place, uint64_t index) {
    const Shape shape = {1003, 1, 32, 1, 4, place, 10};
    return TrainExample(*MakeTaskOrFail("passkey", shape.Values()), index)
        .origins[1002];
  };
  // 500 places, of which 50 are of each depth.
  for (uint64_t index = 0; index < 5; ++index) {
    EXPECT_EQ(origin("start", index), 2 * 24 + 1);
    EXPECT_EQ(origin("middle", index), 2 * 274 + 1);
    EXPECT_EQ(origin("end", index), 2 * 474 + 1);
  }
}

TEST(PasskeyTest, GuessesAreWorthWhatIsClaimed) {
  const auto task = MakeTaskOrFail("passkey", Shape().Values());
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 32);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1);
  EXPECT_DOUBLE_EQ(task->Floors().position, 1.0 / 32);
  EXPECT_DOUBLE_EQ(task->Floors().bag, 1);
  EXPECT_DOUBLE_EQ(task->Floors().ngram, 1.0 / 32);
  // Always the first digit of the passkey.
  const Shape shape = {128, 3, 4, 1, 4, "any", 30};
  const auto three = MakeTaskOrFail("passkey", shape.Values());
  EXPECT_DOUBLE_EQ(three->ContextGuessScore(), 0.5);
  ExpectGuessScores(*three, 4000, 0.5, [](const Example& example) {
    return Text(3, example.targets[125]);
  });
  ExpectGuessScores(*three, 4000, three->ChanceScore(), [&](const Example&) {
    return Text(3, shape.first_digit());
  });
}

TEST(PasskeyTest, DetailsTellWholePasskeys) {
  const Shape shape = {128, 3, 4, 1, 4, "any", 30};
  const auto task = MakeTaskOrFail("passkey", shape.Values());
  const Example example = TrainExample(*task, 0);
  Text answer(example.targets.begin() + 125, example.targets.end());
  EXPECT_EQ(task->Score(example, answer), 1);
  EXPECT_EQ(task->Details(example, answer), std::vector<double>{1});
  answer[1] = 0;
  EXPECT_DOUBLE_EQ(task->Score(example, answer), 2.0 / 3);
  EXPECT_EQ(task->Details(example, answer), std::vector<double>{0});
}

TEST(PasskeyTest, TokensHaveTexts) {
  const auto task =
      MakeTaskOrFail("passkey", Shape{128, 2, 10, 1, 4, "any", 30}.Values());
  std::string text;
  for (int32_t token = 0; token < 11; ++token) {
    text += task->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "| = ! ?1 ?2 _0 _1 _2 _3 0 1 ");
}

TEST(PasskeyTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("passkey"),
            "quick: length=128 digits=1 digit_vocab=16 times=1 sentence=4 "
            "place=any depths=40\n"
            "million: length=128 digits=1 digit_vocab=16 times=1 sentence=4 "
            "place=any depths=40\n"
            "smoke: length=16 digits=1 digit_vocab=4 times=1 sentence=2 "
            "place=any depths=6\n"
            "published/infini: length=5000 digits=5 digit_vocab=10 times=2 "
            "sentence=24 place=any depths=40\n");
}

TEST(PasskeyTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("passkey", {{"length", "82"}}),
            "passkey: depths=40 is a grid finer than the length; length=82 has "
            "room for 39 needles");
  EXPECT_TRUE(TryMakeTask("passkey", {{"length", "83"}}).ok());
  EXPECT_EQ(Refusal("passkey", {{"digits", "64"}, {"depths", "1"}}),
            "passkey: depths=1 is a grid finer than the length; length=128 has "
            "room for 0 needles");
}

}  // namespace
}  // namespace mneme
