// SPDX-License-Identifier: Apache-2.0
//
// What is particular to language modelling of a text. What all tasks have in
// common is in text_contract_test, what is text in text_corpus_test.

#include <cstdint>
#include <fstream>
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

// A file in which every three bytes differ from any other three, so that a
// window tells where it stands.
std::string WriteText(int bytes) {
  std::string text;
  for (int i = 0; static_cast<int>(text.size()) < bytes; ++i) {
    text += static_cast<char>('a' + i / 26 % 26);
    text += static_cast<char>('a' + i % 26);
    text += static_cast<char>('A' + i / 676);
  }
  text.resize(bytes);
  const std::string path = absl::StrCat(testing::TempDir(), "/text_", bytes);
  std::ofstream(path) << text;
  return path;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::unique_ptr<Task> Make(const std::string& path, int length) {
  return MakeTaskOrFail("text",
                        {{"path", path}, {"length", std::to_string(length)}});
}

// Where in the file an example's window stands; expects it to be one.
int64_t PlaceOf(const std::string& text, const Example& example) {
  const std::string tokens(example.tokens.begin(), example.tokens.end());
  const size_t place = text.find(tokens);
  EXPECT_NE(place, std::string::npos) << tokens;
  const std::string next(example.targets.begin(), example.targets.end());
  EXPECT_EQ(text.substr(place + 1, tokens.size()), next);
  return place;
}

TEST(TextTest, TrainingWindowsStandAnywhereInTheFirstNineTenths) {
  const std::string path = WriteText(400);
  const std::string text = ReadFile(path);
  const auto task = Make(path, 16);
  // The last one's last target is at 359.
  std::vector<int64_t> counts(360 - 16);
  for (uint64_t index = 0; index < 5000; ++index) {
    const int64_t place = PlaceOf(text, TrainExample(*task, index));
    ASSERT_LT(place, counts.size());
    ++counts[place];
  }
  ExpectUniform(counts);
}

TEST(TextTest, TestWindowsReadEachByteOfTheirSplitOnce) {
  const std::string path = WriteText(2000);
  const std::string text = ReadFile(path);
  for (const int length : {3, 7, 33, 99}) {
    const auto task = Make(path, length);
    const struct {
      Split split;
      int64_t begin;
    } parts[] = {{Split::kValidation, 1800}, {Split::kTest, 1900}};
    for (const auto& part : parts) {
      const uint64_t windows = 99 / length;
      std::set<int64_t> places;
      Example example;
      for (uint64_t index = 0; index < windows; ++index) {
        task->Generate(part.split, /*seed=*/index, index, &example);
        places.insert(PlaceOf(text, example));
      }
      EXPECT_EQ(places.size(), windows);
      for (const int64_t place : places) {
        EXPECT_EQ((place - part.begin) % length, 0);
        EXPECT_GE(place, part.begin);
        EXPECT_LT(place + length, part.begin + 100);
      }
      // Then they start over.
      Example again;
      task->Generate(part.split, 0, 0, &example);
      task->Generate(part.split, 1, windows, &again);
      EXPECT_EQ(again.tokens, example.tokens);
    }
  }
}

// Half of the windows read no quarter of the text more than another.
TEST(TextTest, TheFirstTestWindowsAreSpreadOverTheText) {
  const std::string path = WriteText(40000);
  const std::string text = ReadFile(path);
  const auto task = Make(path, 20);  // 99 windows
  std::vector<int> quarters(4);
  Example example;
  for (uint64_t index = 0; index < 48; ++index) {
    task->Generate(Split::kTest, 0, index, &example);
    ++quarters[(PlaceOf(text, example) - 38000) / 500];
  }
  for (const int count : quarters) EXPECT_NEAR(count, 12, 2);
}

TEST(TextTest, EveryPositionIsScored) {
  const auto task = MakeTaskOrFail("text", {});
  const Example example = TrainExample(*task, 0);
  for (size_t t = 0; t + 1 < example.tokens.size(); ++t) {
    EXPECT_EQ(example.targets[t], example.tokens[t + 1]);
    EXPECT_EQ(example.roles[t], TokenRole::kQuery);
  }
  EXPECT_NE(example.targets.back(), kUnscored);
}

TEST(TextTest, GuessesAreWorthWhatIsClaimed) {
  const auto task = MakeTaskOrFail("text", {});
  EXPECT_EQ(task->ChanceScore(), 1.0 / 256);
  EXPECT_GT(task->ContextGuessScore(), 1.0 / 256);
  EXPECT_LT(task->ContextGuessScore(), 1.0 / 64);
  // Whoever always says the most frequent byte, a space.
  const auto corpus = *TextCorpus::Open("");
  ExpectGuessScores(*task, 1000, corpus->LargestFrequency(Split::kTrain),
                    [](const Example& example) {
                      return std::vector<int32_t>(example.tokens.size(), ' ');
                    });
}

TEST(TextTest, TheDataAreNamed) {
  const std::string path = WriteText(100);
  const std::string hash = (*TextCorpus::Open(path))->hash();
  EXPECT_EQ(Make(path, 4)->DataIdentity(),
            absl::StrCat("1 file, 100 bytes, hash ", hash));
  EXPECT_NE(
      MakeTaskOrFail("text", {{"path", path}, {"length", "4"}, {"data", hash}}),
      nullptr);
  EXPECT_EQ(Refusal("text", {{"path", path}, {"length", "4"}, {"data", "0"}}),
            absl::StrCat("text: ", path, ": its hash is ", hash,
                         ", not data=0; the text has changed"));
}

TEST(TextTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("text"),
            "quick: length=128 path= data=\n"
            "smoke: length=16 path= data=\n");
}

TEST(TextTest, ConstraintsAreNamed) {
  const std::string path = WriteText(100);
  EXPECT_EQ(Refusal("text", {{"path", path}, {"length", "5"}}),
            absl::StrCat("text: length=5 needs 6 bytes of validation text (90% "
                         "of the bytes are training, 5% validation, 5% test); ",
                         path, " has 5"));
  EXPECT_TRUE(TryMakeTask("text", {{"path", path}, {"length", "4"}}).ok());
  EXPECT_EQ(Refusal("text", {{"path", "/no/such/thing"}}),
            "text: /no/such/thing: no such file or folder");
}

}  // namespace
}  // namespace mneme
