// SPDX-License-Identifier: Apache-2.0

#include "tasks/answer_slots.h"

#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

TEST(AnswerSlotsTest, TheQuestionStandsAtTheEnd) {
  Example example;
  example.origins = {1};  // old contents go
  example.notes = {1};
  AskAtTheEnd(7, std::vector<int32_t>{9, 8}, &example);
  EXPECT_EQ(example.tokens, (std::vector<int32_t>{0, 0, 0, 1, 2, 3, 4}));
  EXPECT_EQ(example.targets,
            (std::vector<int32_t>{kUnscored, kUnscored, kUnscored, kUnscored,
                                  kUnscored, 9, 8}));
  for (int t = 0; t < 7; ++t) {
    EXPECT_EQ(example.roles[t],
              t < 5 ? TokenRole::kContext : TokenRole::kQuery);
  }
  EXPECT_TRUE(example.origins.empty());
  EXPECT_TRUE(example.notes.empty());
  EXPECT_EQ(QuestionLength(2), 4);
}

TEST(AnswerSlotsTest, TokensHaveTexts) {
  std::string text;
  for (int32_t token = 0; token < 7; ++token) {
    text += SlotTaskTokenText(token, /*slots=*/2, "w") + " ";
  }
  EXPECT_EQ(text, "_ | = ?1 ?2 w1 w2 ");
  EXPECT_EQ(FirstFreeToken(2), 5);
}

}  // namespace
}  // namespace mneme
