// SPDX-License-Identifier: Apache-2.0
//
// What is particular to needles in text. What all tasks have in common is in
// text_needle_contract_test, what is text in text_corpus_test.

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"
#include "tasks/text_corpus.h"

namespace mneme {
namespace {

constexpr int kKeys = 16, kValues = 16;

std::unique_ptr<Task> Make(int length, int needles, int queries,
                           const char* needle = "token") {
  return MakeTaskOrFail("text_needle", {{"length", std::to_string(length)},
                                        {"needles", std::to_string(needles)},
                                        {"queries", std::to_string(queries)},
                                        {"needle", needle}});
}

// The training text, once more from its start.
std::string TrainingText() {
  const auto corpus = *TextCorpus::Open("");
  std::vector<int32_t> bytes(corpus->bytes(Split::kTrain) + 4096);
  corpus->Read(Split::kTrain, 0, absl::MakeSpan(bytes));
  return std::string(bytes.begin(), bytes.end());
}

TEST(TextNeedleTest, TokensAreAsDefined) {
  const std::string text = TrainingText();
  const auto task = Make(128, 4, 3);
  EXPECT_EQ(task->vocabulary(), 256 + kKeys + kValues);
  for (uint64_t index = 0; index < 200; ++index) {
    const Example example = TrainExample(*task, index);
    const auto is_key = [&](int t) {
      return example.tokens[t] >= 256 && example.tokens[t] < 256 + kKeys;
    };
    std::map<int32_t, int> place_of;  // of a key's value
    std::set<int32_t> values;
    std::string haystack;
    for (int t = 0; t < 125; ++t) {
      EXPECT_EQ(example.targets[t], kUnscored);
      if (is_key(t)) {
        EXPECT_TRUE(place_of.emplace(example.tokens[t], t + 1).second);
        ++t;
        EXPECT_GE(example.tokens[t], 256 + kKeys);
        EXPECT_TRUE(values.insert(example.tokens[t]).second);
      } else {
        ASSERT_LT(example.tokens[t], 256);
        EXPECT_EQ(example.roles[t], TokenRole::kFiller);
        haystack += static_cast<char>(example.tokens[t]);
      }
    }
    EXPECT_EQ(place_of.size(), 4);
    // Behind each needle the text goes on.
    EXPECT_NE(text.find(haystack), std::string::npos) << haystack;
    std::set<int32_t> asked;
    for (int t = 125; t < 128; ++t) {
      ASSERT_TRUE(place_of.count(example.tokens[t]));
      EXPECT_TRUE(asked.insert(example.tokens[t]).second);
      EXPECT_EQ(example.origins[t], place_of[example.tokens[t]]);
      EXPECT_EQ(example.targets[t], example.tokens[example.origins[t]]);
      EXPECT_EQ(example.roles[t], TokenRole::kQuery);
    }
  }
}

TEST(TextNeedleTest, LinesAreAsDefined) {
  const std::string text = TrainingText();
  const auto task = Make(512, 5, 2, "line");
  EXPECT_EQ(task->vocabulary(), 256);
  for (uint64_t index = 0; index < 200; ++index) {
    const Example example = TrainExample(*task, index);
    std::string all(example.tokens.begin(), example.tokens.end());
    int scored = 0;
    std::string haystack = all.substr(0, 500);
    for (int t = 0; t < 512; ++t) {
      if (example.targets[t] == kUnscored) continue;
      EXPECT_EQ(t, 505 + 6 * scored++);
      const std::string question = all.substr(t - 5, 6);
      EXPECT_EQ(question.substr(0, 2), "\n#");
      EXPECT_EQ(question[5], '=');
      const std::string needle =
          absl::StrCat(question, std::string(1, example.targets[t]), "\n");
      const size_t place = haystack.find(needle);
      ASSERT_NE(place, std::string::npos) << needle;
      EXPECT_EQ(example.origins[t], place + 6);
      EXPECT_EQ(place % 8, 0);
    }
    EXPECT_EQ(scored, 2);
    for (int t = 500 - 8; t >= 0; --t) {
      if (example.roles[t] == TokenRole::kContext &&
          (t == 0 || example.roles[t - 1] != TokenRole::kContext ||
           t % 8 == 0)) {
        haystack.erase(t, 8);
      }
    }
    EXPECT_EQ(haystack.size(), 500 - 5 * 8);
    EXPECT_NE(text.find(haystack), std::string::npos) << haystack;
  }
}

TEST(TextNeedleTest, DepthsKeysAndValuesAreUniform) {
  const auto task = Make(104, 2, 1);  // 51 places
  std::map<int, int64_t> places;
  std::vector<int64_t> keys(kKeys), values(kValues);
  for (uint64_t index = 0; index < 4000; ++index) {
    const Example example = TrainExample(*task, index);
    ++places[example.origins[103]];
    ++keys[example.tokens[103] - 256];
    ++values[example.targets[103] - 256 - kKeys];
  }
  EXPECT_EQ(places.size(), 40);
  std::vector<int64_t> counts;
  for (const auto& [place, count] : places) counts.push_back(count);
  ExpectUniform(counts);
  ExpectUniform(keys);
  ExpectUniform(values);
}

// Sequences longer than the text read it again and again.
TEST(TextNeedleTest, AShortTextStartsOver) {
  const std::string path = absl::StrCat(testing::TempDir(), "/short");
  std::string text;
  for (int i = 0; i < 128; ++i) text += absl::StrCat(1000 + i, " letters\n");
  std::ofstream(path) << text;
  const auto task =
      MakeTaskOrFail("text_needle", {{"path", path}, {"length", "4096"}});
  Example example;
  task->Generate(Split::kTest, 0, 0, &example);
  std::string haystack;
  for (const int32_t token : example.tokens) {
    if (token < 256) haystack += static_cast<char>(token);
  }
  const std::string part = text.substr(text.size() * 95 / 100);
  for (size_t t = part.size(); t < haystack.size(); ++t) {
    ASSERT_EQ(haystack[t], haystack[t - part.size()]) << t;
  }
  EXPECT_NE((haystack.substr(0, 2 * part.size())).find(part),
            std::string::npos);
}

TEST(TextNeedleTest, GuessesAreWorthWhatIsClaimed) {
  const auto task = Make(128, 4, 2);
  EXPECT_EQ(task->ChanceScore(), 1.0 / kValues);
  EXPECT_EQ(task->ContextGuessScore(), 1.0 / 4);
  const auto first_value = [](const Example& example) {
    int t = 0;
    while (example.tokens[t] < 256 + kKeys) ++t;
    return std::vector<int32_t>(2, example.tokens[t]);
  };
  ExpectGuessScores(*task, 2000, 1.0 / 4, first_value);
}

TEST(TextNeedleTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("text_needle"),
            "quick: length=128 needle=token needles=4 queries=4 keys=16 "
            "values=16 depths=40 path= data=\n"
            "smoke: length=24 needle=token needles=2 queries=2 keys=4 values=4 "
            "depths=4 path= data=\n"
            "lines: length=384 needle=line needles=4 queries=1 keys=16 "
            "values=16 depths=40 path= data=\n");
}

TEST(TextNeedleTest, ConstraintsAreNamed) {
  const auto refusal = [](const OptionValues& values) {
    return Refusal("text_needle", values);
  };
  EXPECT_EQ(refusal({{"length", "83"}}),
            "text_needle: depths=40 is a grid finer than the length; length=83 "
            "has room for 39 needles");
  EXPECT_TRUE(TryMakeTask("text_needle", {{"length", "84"}}).ok());
  EXPECT_EQ(refusal({{"depths", "3"}}),
            "text_needle: needles=4 need depths >= 4 (each stands at a depth "
            "of its own), not 3");
  EXPECT_EQ(refusal({{"queries", "5"}}),
            "text_needle: queries=5 need needles >= 5, not 4");
  EXPECT_EQ(refusal({{"keys", "3"}}),
            "text_needle: needles=4 need keys >= 4 (they are different), not "
            "3");
  EXPECT_EQ(refusal({{"values", "3"}}),
            "text_needle: needles=4 need values >= 4 (they are different), not "
            "3");
  EXPECT_EQ(refusal({{"needle", "line"}, {"values", "27"}}),
            "text_needle: needle=line has values of one letter, at most 26, "
            "not 27");
  EXPECT_EQ(refusal({{"path", "/no/such/thing"}}),
            "text_needle: /no/such/thing: no such file or folder");
  const std::string path = absl::StrCat(testing::TempDir(), "/tiny");
  std::ofstream(path) << std::string(1000, 'a');
  EXPECT_EQ(refusal({{"path", path}}),
            absl::StrCat("text_needle: ", path,
                         " has 50 bytes of validation text, 64 is the least "
                         "(90% of the bytes are training, 5% validation, 5% "
                         "test)"));
}

}  // namespace
}  // namespace mneme
