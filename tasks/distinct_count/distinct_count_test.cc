// SPDX-License-Identifier: Apache-2.0
//
// What is particular to counting distinct segments. What all tasks have in
// common is in distinct_count_contract_test.

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

using Segment = std::vector<int32_t>;

std::unique_ptr<Task> Make(int length, int segments, int segment, int words) {
  return MakeTaskOrFail("distinct_count",
                        {{"length", std::to_string(length)},
                         {"segments", std::to_string(segments)},
                         {"segment", std::to_string(segment)},
                         {"words", std::to_string(words)}});
}

// The segments in the order of the context; expects nothing but blanks between.
std::vector<Segment> Segments(const Example& e, int segments, int width) {
  const int mark = 4 + segments;
  const int places = static_cast<int>(e.tokens.size()) - 3;
  std::vector<Segment> found;
  for (int t = 0; t < places; ++t) {
    if (e.tokens[t] == 0) {
      EXPECT_EQ(e.roles[t], TokenRole::kFiller);
      continue;
    }
    EXPECT_EQ(e.tokens[t], mark) << "at " << t;
    if (t + width >= places) {
      ADD_FAILURE() << "a segment is cut off";
      break;
    }
    found.emplace_back(e.tokens.begin() + t + 1,
                       e.tokens.begin() + t + 1 + width);
    for (int i = 0; i <= width; ++i) {
      EXPECT_EQ(e.roles[t + i], TokenRole::kContext);
      EXPECT_EQ(e.targets[t + i], kUnscored);
    }
    t += width;
  }
  return found;
}

TEST(DistinctCountTest, ExamplesAreAsDefined) {
  struct Case {
    int length, segments, width, words;
  };
  for (const Case& c : std::vector<Case>{{64, 6, 2, 16},
                                         {16, 4, 2, 8},
                                         {21, 6, 2, 16},  // no blanks
                                         {64, 8, 3, 2},   // all there are
                                         {500, 3, 150, 100}}) {
    SCOPED_TRACE(testing::Message() << c.length << " " << c.width);
    const std::unique_ptr<Task> task =
        Make(c.length, c.segments, c.width, c.words);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), 4 + c.segments + 1 + c.words);
    for (uint64_t index = 0; index < 100; ++index) {
      const Example e = TrainExample(*task, index);
      const std::vector<Segment> segments = Segments(e, c.segments, c.width);
      EXPECT_EQ(segments.size(), c.segments);
      for (const Segment& segment : segments) {
        for (const int32_t word : segment) {
          EXPECT_TRUE(5 + c.segments <= word && word < task->vocabulary());
        }
      }
      const std::set<Segment> distinct(segments.begin(), segments.end());
      EXPECT_EQ(e.targets.back(), 4 + static_cast<int>(distinct.size()) - 1);
      EXPECT_EQ(e.roles.back(), TokenRole::kQuery);
      EXPECT_EQ(e.tokens[c.length - 3], 1);
      EXPECT_EQ(e.tokens[c.length - 2], 2);
      EXPECT_EQ(e.tokens[c.length - 1], 3);
    }
  }
}

TEST(DistinctCountTest, CountsSegmentsAndPlacesAreUniform) {
  const std::unique_ptr<Task> task = Make(16, 3, 2, 4);
  std::vector<int64_t> counts(3), segments(16), places(13);
  std::vector<int64_t> repeated_first(3);  // of 3 with 2 different: which pair
  for (uint64_t index = 0; index < 6000; ++index) {
    const Example e = TrainExample(*task, index);
    const std::vector<Segment> found = Segments(e, 3, 2);
    ++counts[e.targets.back() - 4];
    ++segments[(found[0][0] - 8) * 4 + found[0][1] - 8];
    for (int t = 0; t < 13; ++t) places[t] += e.tokens[t] == 0;
    if (e.targets.back() != 4 + 1) continue;
    ++repeated_first[found[0] == found[1] ? 0 : found[0] == found[2] ? 1 : 2];
  }
  ExpectUniform(counts);
  ExpectUniform(segments);
  ExpectUniform(repeated_first);
  // Three runs of three among thirteen places: a place is a blank as often as
  // the one that mirrors it.
  for (int t = 0; t < 6; ++t) {
    ExpectUniform(std::vector<int64_t>{places[t], places[12 - t]});
  }
}

// Words beyond those that a segment's number gives are random too.
TEST(DistinctCountTest, LongSegmentsAreRandomToTheirEnd) {
  const std::unique_ptr<Task> task = Make(256, 2, 100, 2);
  std::vector<int64_t> last(2);
  for (uint64_t index = 0; index < 500; ++index) {
    ++last[Segments(TrainExample(*task, index), 2, 100)[0].back() - 7];
  }
  ExpectUniform(last);
}

TEST(DistinctCountTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(64, 6, 2, 16);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 6);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 6);
  for (int32_t number = 4; number < 10; ++number) {
    ExpectGuessScores(*task, 4000, task->ChanceScore(), [&](const Example&) {
      return std::vector<int32_t>{number};
    });
  }
}

TEST(DistinctCountTest, DetailsForgiveOne) {
  const std::unique_ptr<Task> task = Make(64, 6, 2, 16);
  Example e = TrainExample(*task, 0);
  e.targets.back() = 4 + 5;  // six
  const auto within_one = [&](int32_t said) {
    return task->Details(e, {said})[0];
  };
  EXPECT_EQ(within_one(4 + 5), 1);
  EXPECT_EQ(within_one(4 + 4), 1);
  EXPECT_EQ(within_one(4 + 3), 0);
  EXPECT_EQ(within_one(4 + 6), 0) << "no number";
  EXPECT_EQ(task->Score(e, {4 + 4}), 0);
}

TEST(DistinctCountTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("distinct_count"),
            "quick: length=64 segments=6 segment=2 words=16\n"
            "smoke: length=16 segments=4 segment=2 words=8\n");
}

TEST(DistinctCountTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make(16, 2, 1, 2);
  std::string text;
  for (int32_t token = 0; token < 9; ++token) {
    text += task->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "_ | = ?1 1 2 # w1 w2 ");
}

TEST(DistinctCountTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("distinct_count", {{"length", "20"}}),
            "distinct_count: segments=6 of 2 words need length >= 21 with "
            "their marks and the question, not 20");
  EXPECT_EQ(Refusal("distinct_count", {{"words", "2"}}),
            "distinct_count: words=2 make 4 different segments of 2, and "
            "segments=6 may all have to differ");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("distinct_count", {{"length", "21"}}).ok());
  EXPECT_TRUE(TryMakeTask("distinct_count", {{"words", "3"}}).ok());
}

}  // namespace
}  // namespace mneme
