// SPDX-License-Identifier: Apache-2.0
//
// What is particular to reordering. What all tasks have in common is in
// reorder_contract_test.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

struct Sizes {
  int length, chapters, labels, dates, words;
};

std::unique_ptr<Task> Make(const Sizes& s, const std::string& date = "first") {
  return MakeTaskOrFail("reorder", {{"length", std::to_string(s.length)},
                                    {"chapters", std::to_string(s.chapters)},
                                    {"labels", std::to_string(s.labels)},
                                    {"dates", std::to_string(s.dates)},
                                    {"words", std::to_string(s.words)},
                                    {"date", date}});
}

constexpr Sizes kQuick = {64, 6, 16, 16, 16};

TEST(ReorderTest, ExamplesAreAsDefined) {
  for (const std::string date : {"first", "anywhere"}) {
    for (const Sizes& s : {kQuick, Sizes{24, 3, 8, 8, 8}, Sizes{8, 2, 2, 2, 1},
                           Sizes{300, 5, 5, 100, 7}}) {
      SCOPED_TRACE(s.length);
      const std::unique_ptr<Task> task = Make(s, date);
      const int label = 3 + s.chapters;
      const int first_date = label + s.labels;
      const int word = first_date + s.dates;
      EXPECT_EQ(task->length(), s.length);
      EXPECT_EQ(task->vocabulary(), word + s.words);
      const int slots = s.length - s.chapters;
      const int chapter = (slots - 2) / s.chapters;
      for (uint64_t index = 0; index < 50; ++index) {
        const Example e = TrainExample(*task, index);
        std::map<int32_t, int> chapter_of_date;  // sorts
        std::map<int32_t, int> chapter_of_label;
        for (int i = 0; i < s.chapters; ++i) {
          const int start = i * chapter;
          int dates = 0;
          for (int t = start; t < start + chapter; ++t) {
            const int32_t token = e.tokens[t];
            if (t == start) {
              EXPECT_TRUE(label <= token && token < first_date) << token;
              EXPECT_TRUE(chapter_of_label.emplace(token, i).second);
            } else if (token < word) {
              EXPECT_GE(token, first_date);
              EXPECT_TRUE(chapter_of_date.emplace(token, i).second);
              EXPECT_TRUE(date == "anywhere" || t == start + 1);
              ++dates;
            }
            EXPECT_EQ(e.roles[t],
                      token < word ? TokenRole::kContext : TokenRole::kFiller);
          }
          EXPECT_EQ(dates, 1);
        }
        for (int t = s.chapters * chapter; t < slots - 2; ++t) {
          EXPECT_EQ(e.tokens[t], 0);
        }
        int slot = slots;
        for (const auto& [when, i] : chapter_of_date) {
          EXPECT_EQ(e.targets[slot], e.tokens[i * chapter]);
          EXPECT_EQ(e.origins[slot], i * chapter);
          EXPECT_EQ(e.tokens[slot], 3 + slot - slots);
          EXPECT_EQ(e.roles[slot], TokenRole::kQuery);
          ++slot;
        }
        EXPECT_EQ(slot, s.length);
      }
    }
  }
}

TEST(ReorderTest, DrawsAreUniform) {
  const std::unique_ptr<Task> task = Make({26, 3, 4, 5, 1}, "anywhere");
  std::vector<int64_t> labels(4), dates(5), offsets(6), orders(6);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    ++labels[e.tokens[0] - 6];
    for (int t = 1; t < 7; ++t) {
      if (e.tokens[t] == 15) continue;  // the only word
      ++dates[e.tokens[t] - 10];
      ++offsets[t - 1];
    }
    // Which chapter of the context is first, and which second.
    const int first = e.origins[23] / 7;
    const int second = e.origins[24] / 7;
    ++orders[2 * first + (second > first ? second - 1 : second)];
  }
  ExpectUniform(labels);
  ExpectUniform(dates);
  ExpectUniform(offsets);
  ExpectUniform(orders);
}

TEST(ReorderTest, ScoreIsTheConcordanceIndex) {
  const std::unique_ptr<Task> task = Make({64, 4, 16, 16, 16});
  const Example e = TrainExample(*task, 0);
  const std::vector<int32_t> w(e.targets.end() - 4, e.targets.end());
  int32_t other = 7;  // a label that is not there
  while (std::count(w.begin(), w.end(), other) > 0) ++other;
  const auto score = [&](const std::vector<int32_t>& said) {
    return task->Score(e, said);
  };
  EXPECT_EQ(score({w[0], w[1], w[2], w[3]}), 1);
  EXPECT_EQ(score({w[3], w[2], w[1], w[0]}), 0);
  EXPECT_DOUBLE_EQ(score({w[1], w[0], w[2], w[3]}), 5.0 / 6);
  EXPECT_DOUBLE_EQ(score({w[3], w[0], w[1], w[2]}), 3.0 / 6);
  // Without one of them, its three pairs are wrong.
  EXPECT_DOUBLE_EQ(score({w[0], other, w[2], w[3]}), 3.0 / 6);
  EXPECT_DOUBLE_EQ(score({w[0], w[0], w[2], w[3]}), 3.0 / 6);
  EXPECT_DOUBLE_EQ(score({0, 1, 63, w[3]}), 0);
  // What is said twice counts where it is said first.
  EXPECT_DOUBLE_EQ(score({w[0], w[1], w[0], w[1]}), 1.0 / 6);
  EXPECT_EQ(task->Details(e, {w[1], w[0], w[2], w[3]}),
            (std::vector<double>{0, 0.5}));
  EXPECT_EQ(task->Details(e, w), (std::vector<double>{1, 1}));
}

TEST(ReorderTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(kQuick);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 0.5 * 6 * 5 / (16 * 15));
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 0.5);
  ExpectGuessScores(*task, 10000, task->ChanceScore(), [](const Example&) {
    return std::vector<int32_t>{9, 12, 10, 24, 20, 11};
  });
  Random random(/*seed=*/0, StreamId("reorder_test"));
  ExpectGuessScores(
      *task, 10000, task->ContextGuessScore(), [&](const Example& e) {
        std::vector<int32_t> labels(e.targets.end() - 6, e.targets.end());
        Shuffle(absl::MakeSpan(labels), &random);
        return labels;
      });
}

TEST(ReorderTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("reorder"),
            "quick: length=64 chapters=4 labels=16 dates=8 words=16 "
            "date=first\n"
            "smoke: length=24 chapters=3 labels=8 dates=8 words=8 date=first\n"
            "published/zeroscrolls: length=8192 chapters=16 labels=64 "
            "dates=1024 words=256 date=anywhere\n");
}

TEST(ReorderTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make({8, 2, 2, 2, 1});
  std::string text;
  for (int32_t token = 0; token < 10; ++token) {
    text += task->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "_ | = ?1 ?2 c0 c1 d0 d1 w0 ");
}

TEST(ReorderTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("reorder", {{"length", "13"}}),
            "reorder: chapters=4 need length >= 14 (label, date and slot each, "
            "two marks), not 13");
  EXPECT_EQ(Refusal("reorder", {{"labels", "3"}}),
            "reorder: chapters=4 need as many different labels, not labels=3");
  EXPECT_EQ(Refusal("reorder", {{"dates", "3"}}),
            "reorder: chapters=4 need as many different dates, not dates=3");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("reorder", {{"length", "14"}}).ok());
  EXPECT_TRUE(TryMakeTask("reorder", {{"labels", "4"}}).ok());
  EXPECT_TRUE(TryMakeTask("reorder", {{"dates", "4"}}).ok());
}

}  // namespace
}  // namespace mneme
