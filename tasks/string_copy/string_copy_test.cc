// SPDX-License-Identifier: Apache-2.0
//
// What is particular to copying strings. What all tasks have in common is in
// string_copy_contract_test.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(const OptionValues& values) {
  return MakeTaskOrFail("string_copy", values);
}

Example GenerateOf(const Task& task, Split split, uint64_t index) {
  Example example;
  task.Generate(split, /*seed=*/0, index, &example);
  return example;
}

std::string Text(const Task& task, const std::vector<int32_t>& tokens) {
  std::string text;
  for (const int32_t token : tokens) {
    text += token == kUnscored ? " " : task.TokenText(token);
  }
  return text;
}

// Reads "$x|x.$y|y." with what may follow, expects targets of exactly that,
// and returns the lengths of the strings.
std::vector<int> ExpectIsStringCopy(const Task& task, const Example& e,
                                    bool packed) {
  const std::string tokens = Text(task, e.tokens);
  std::string targets(tokens.size(), ' ');
  std::vector<int> lengths;
  size_t begin = 0;
  while (true) {
    const size_t end = tokens.find('.', begin);
    if (end == std::string::npos) break;
    const size_t middle = tokens.find('|', begin);
    EXPECT_EQ(tokens[begin], '$');
    const std::string x = tokens.substr(begin + 1, middle - begin - 1);
    EXPECT_EQ(x.find_first_not_of("abcdefghijklmnopqrstuvwxyz"),
              std::string::npos);
    EXPECT_EQ(tokens.substr(middle, end - middle + 1), "|" + x + ".");
    for (size_t i = 0; i <= x.size(); ++i) {
      targets[middle + i] = (x + ".")[i];
      EXPECT_EQ(e.roles[middle + i], TokenRole::kQuery);
      if (i == x.size()) continue;
      EXPECT_EQ(e.origins[middle + i], static_cast<int32_t>(begin + 1 + i));
    }
    lengths.push_back(x.size());
    begin = end + 1;
  }
  EXPECT_EQ(Text(task, e.targets), targets);
  if (!packed) {
    EXPECT_EQ(lengths.size(), 1);
    EXPECT_EQ(tokens.substr(begin), std::string(tokens.size() - begin, '*'));
  } else if (begin < tokens.size()) {
    EXPECT_EQ(tokens[begin], '$');
    EXPECT_EQ(tokens.find('*'), std::string::npos);
  }
  return lengths;
}

TEST(StringCopyTest, ExamplesAreAsDefined) {
  struct Case {
    int length, least;
    const char* longest;
    int most;
  };
  for (const Case& c : std::vector<Case>{{64, 8, "0.45", 28},
                                         {220, 8, "0.2273", 50},
                                         {5, 1, "0.2", 1},  // the smallest
                                         {30, 3, "0.1", 3},
                                         {33, 15, "0.4546", 15}}) {
    SCOPED_TRACE(testing::Message() << "length " << c.length);
    const std::unique_ptr<Task> task =
        Make({{"length", std::to_string(c.length)},
              {"min_string", std::to_string(c.least)},
              {"longest", c.longest}});
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), 30);
    for (uint64_t index = 0; index < 50; ++index) {
      for (const int n :
           ExpectIsStringCopy(*task, TrainExample(*task, index), true)) {
        EXPECT_TRUE(c.least <= n && n <= c.most) << n;
      }
      for (const Split split : {Split::kValidation, Split::kTest}) {
        EXPECT_EQ(
            ExpectIsStringCopy(*task, GenerateOf(*task, split, index), false),
            std::vector<int>{c.most});
      }
    }
  }
}

// Another string begins wherever there is room for a token of it.
TEST(StringCopyTest, TrainingSequencesArePacked) {
  const std::unique_ptr<Task> task =
      Make({{"length", "40"}, {"min_string", "4"}, {"longest", "0.1"}});
  const Example e = TrainExample(*task, 0);
  const std::string text = Text(*task, e.tokens);
  for (const int begin : {0, 11, 22, 33}) EXPECT_EQ(text[begin], '$');
  EXPECT_EQ(text[38], '|');  // after which nothing is scored
  EXPECT_EQ(WantedTokens(e).size(), 15);
  const std::unique_ptr<Task> single = Make({{"length", "40"},
                                             {"min_string", "4"},
                                             {"longest", "0.1"},
                                             {"packed", "false"}});
  EXPECT_EQ(ExpectIsStringCopy(*single, TrainExample(*single, 0), false),
            std::vector<int>{4});
}

TEST(StringCopyTest, DrawsAreUniform) {
  const std::unique_ptr<Task> task = Make({{"length", "20"},
                                           {"letters", "5"},
                                           {"min_string", "3"},
                                           {"longest", "0.4"},
                                           {"test_strings", "random"}});
  std::vector<int64_t> first(6), letters(5), test(6);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    ++first[ExpectIsStringCopy(*task, e, true).at(0) - 3];
    ++letters[e.tokens[3] - 4];
    ++test[ExpectIsStringCopy(*task, GenerateOf(*task, Split::kTest, index),
                              false)
               .at(0) -
           3];
  }
  ExpectUniform(first);
  ExpectUniform(letters);
  ExpectUniform(test);
}

TEST(StringCopyTest, ScoresStringsAndLettersButNotTheEnd) {
  const std::unique_ptr<Task> task =
      Make({{"length", "22"}, {"min_string", "4"}, {"longest", "0.19"}});
  ASSERT_EQ(task->DetailNames(), std::vector<std::string>{"characters"});
  const Example e = TrainExample(*task, 0);  // two strings of four letters
  std::vector<int32_t> predictions = WantedTokens(e);
  ASSERT_EQ(predictions.size(), 10);
  predictions[4] = 7;  // an end
  EXPECT_EQ(task->Score(e, predictions), 1);
  EXPECT_EQ(task->Details(e, predictions), std::vector<double>{1});
  predictions[5] = 0;
  EXPECT_EQ(task->Score(e, predictions), 0.5);
  EXPECT_EQ(task->Details(e, predictions), std::vector<double>{7.0 / 8});
  predictions[0] = 0;
  EXPECT_EQ(task->Score(e, predictions), 0);
  EXPECT_EQ(task->Details(e, predictions), std::vector<double>{6.0 / 8});
}

TEST(StringCopyTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make({{"length", "8"},
                                           {"letters", "3"},
                                           {"min_string", "2"},
                                           {"longest", "0.25"},
                                           {"packed", "false"}});
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 9);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 4);
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [](const Example&) {
    return std::vector<int32_t>{4, 6, 0};
  });
  // Letters in the order of the alphabet: six multisets of nine strings.
  EXPECT_NEAR(task->Floors().bag, 6.0 / 9, 1e-12);
  ExpectGuessScores(*task, 5000, task->Floors().bag, [](const Example& e) {
    std::vector<int32_t> x = {e.tokens[1], e.tokens[2]};
    if (x[0] > x[1]) std::swap(x[0], x[1]);
    return std::vector<int32_t>{x[0], x[1], 0};
  });
  // "ab|" and "b|a" say what comes next; "bc|" does not.
  EXPECT_EQ(task->Floors().ngram, 1);
  EXPECT_DOUBLE_EQ(Make({{"length", "9"},
                         {"letters", "3"},
                         {"min_string", "3"},
                         {"longest", "0.34"}})
                       ->Floors()
                       .ngram,
                   1.0 / 27);
}

TEST(StringCopyTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("string_copy"),
            "quick: length=64 letters=26 min_string=4 longest=0.25 packed=true "
            "test_strings=longest\n"
            "smoke: length=16 letters=26 min_string=2 longest=0.25 packed=true "
            "test_strings=longest\n"
            "published/repeat_after_me: length=220 letters=26 min_string=8 "
            "longest=0.2273 packed=true test_strings=longest\n");
}

TEST(StringCopyTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("string_copy", {{"min_string", "29"}}),
            "string_copy: the longest string, longest * length = 28 letters, "
            "is shorter than min_string=29");
  EXPECT_EQ(Refusal("string_copy", {{"longest", "0.485"}}),
            "string_copy: a string of longest * length = 31 letters needs "
            "length >= 65, not 64");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("string_copy", {{"min_string", "28"}}).ok());
  EXPECT_TRUE(TryMakeTask("string_copy", {{"longest", "0.47"}}).ok());
}

}  // namespace
}  // namespace mneme
