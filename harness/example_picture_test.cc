// SPDX-License-Identifier: Apache-2.0

#include "harness/example_picture.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Letters : public Task {
 public:
  int64_t vocabulary() const override { return 26; }
  int64_t length() const override { return 6; }
  void Generate(Split, uint64_t, uint64_t, Example* example) const override {
    *example = {{0, 1, 2, 3, 4, 5},
                {kUnscored, kUnscored, kUnscored, 9, 5, kUnscored},
                {TokenRole::kContext, TokenRole::kFiller, TokenRole::kQuery,
                 TokenRole::kQuery, TokenRole::kQuery, TokenRole::kContext}};
  }
  double ChanceScore() const override { return 0; }
  double ContextGuessScore() const override { return 0; }
  std::string TokenText(int32_t token) const override {
    return std::string(1, static_cast<char>('a' + token));
  }
};

Example OfLetters() {
  Example example;
  Letters().Generate(Split::kTrain, 0, 0, &example);
  return example;
}

TEST(PictureOfExample, MarksRolesWithoutColours) {
  EXPECT_THAT(PictureOfExample(Letters(), OfLetters(), {80, false}),
              HasSubstr("  a (b) c? d>j _e f\n"));
}

TEST(PictureOfExample, ColoursInsteadOfMarks) {
  const std::string picture =
      PictureOfExample(Letters(), OfLetters(), {80, true});
  EXPECT_THAT(picture, HasSubstr("a \033[90mb\033[0m \033[1;33mc\033[0m"));
  EXPECT_THAT(picture, HasSubstr(">\033[32mj\033[0m"));
  EXPECT_THAT(picture, Not(HasSubstr("(b)")));
}

TEST(PictureOfExample, FitsTheTerminalAndCutsLongRunsShort) {
  Example example;
  example.tokens.assign(5000, 1);
  example.targets.assign(5000, kUnscored);
  example.roles.assign(5000, TokenRole::kFiller);
  example.targets[4000] = 2;
  const std::string picture = PictureOfExample(Letters(), example, {40, false});
  EXPECT_THAT(picture, HasSubstr("... 3,952 more ..."));
  EXPECT_THAT(picture, HasSubstr("b>c"));
  for (const std::string& line : std::vector<std::string>(
           absl::StrSplit(picture.substr(0, picture.find("\n\n")), '\n'))) {
    EXPECT_LE(line.size(), 40) << line;
  }
}

TEST(PictureOfExample, AThousandScoredPositionsAreAPage) {
  Example example;
  example.tokens.assign(100000, 1);
  example.targets.assign(100000, 2);
  example.roles.assign(100000, TokenRole::kQuery);
  const std::string picture = PictureOfExample(Letters(), example, {80, false});
  EXPECT_LT(picture.size(), 5000);
  EXPECT_THAT(picture, HasSubstr("... 99,400 more ..."));
}

TEST(ExampleJson, IsTheExample) {
  const auto json = ExampleJson(Letters(), OfLetters());
  EXPECT_EQ(json["tokens"][3], 3);
  EXPECT_EQ(json["text"][3], "d");
  EXPECT_EQ(json["targets"][3], 9);
  EXPECT_TRUE(json["targets"][0].is_null());
  EXPECT_EQ(json["roles"][1], "filler");
  EXPECT_FALSE(json.contains("origins"));
}

}  // namespace
}  // namespace mneme
