// SPDX-License-Identifier: Apache-2.0

#include "tasks/haystack.h"

#include <vector>

#include "gtest/gtest.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

Example Fill(const Filler& filler, int64_t first, int64_t count) {
  const TaskRandom random("haystack");
  Example example;
  RangeWriter out(first, count, &example);
  filler.Write(random, Split::kTest, /*seed=*/1, /*index=*/2, &out);
  return example;
}

TEST(RangeWriterTest, DropsWhatIsOutside) {
  Example example;
  example.notes = {1};
  RangeWriter out(10, 3, &example);
  for (const int64_t t : {9, 10, 13}) out.Write(t, 7, TokenRole::kContext);
  for (const int64_t t : {8, 12, 14}) out.Ask(t, 5, 6, 4);
  EXPECT_EQ(example.tokens, (std::vector<int32_t>{7, 0, 5}));
  EXPECT_EQ(example.targets, (std::vector<int32_t>{kUnscored, kUnscored, 6}));
  EXPECT_EQ(example.origins, (std::vector<int32_t>{kNowhere, kNowhere, 4}));
  EXPECT_EQ(example.roles,
            (std::vector<TokenRole>{TokenRole::kContext, TokenRole::kFiller,
                                    TokenRole::kQuery}));
  EXPECT_TRUE(example.notes.empty());
}

TEST(FillerTest, SentencesRepeat) {
  const Filler filler(4, 3, /*random=*/false);
  EXPECT_EQ(Fill(filler, 0, 7).tokens,
            (std::vector<int32_t>{4, 5, 6, 4, 5, 6, 4}));
  EXPECT_EQ(Fill(filler, 1'000'000, 2).tokens, (std::vector<int32_t>{5, 6}));
}

TEST(FillerTest, AnyRangeIsPartOfTheWhole) {
  for (const bool random : {false, true}) {
    const Filler filler(4, 1000, random);
    const Example whole = Fill(filler, 0, 50);
    for (int64_t first = 0; first < 50; ++first) {
      for (int64_t count = 0; first + count <= 50; ++count) {
        EXPECT_EQ(Fill(filler, first, count).tokens,
                  std::vector<int32_t>(whole.tokens.begin() + first,
                                       whole.tokens.begin() + first + count));
      }
    }
  }
}

// Alone and in pairs at each distance at which a block's numbers could repeat.
TEST(FillerTest, RandomTokensAreUniformAndIndependent) {
  const std::vector<int32_t> tokens =
      Fill(Filler(4, 5, /*random=*/true), 0, 40'000).tokens;
  for (const size_t distance : {1, 2, 4, 8, 16}) {
    std::vector<int64_t> pairs(25);
    for (size_t t = 0; t + distance < tokens.size(); ++t) {
      ++pairs[(tokens[t] - 4) * 5 + tokens[t + distance] - 4];
    }
    ExpectUniform(pairs);
  }
}

}  // namespace
}  // namespace mneme
