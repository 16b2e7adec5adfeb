// SPDX-License-Identifier: Apache-2.0

#include "harness/reference_memory.h"

#include <vector>

#include "gtest/gtest.h"

namespace mneme {
namespace {

// Four values stand at positions 0, 10, 20 and 30; the last 8 tokens, 40 to 47,
// ask for each of them twice.
class FourValues : public Task {
 public:
  explicit FourValues(bool with_origins = true) : with_origins_(with_origins) {}
  int64_t vocabulary() const override { return 10; }
  int64_t length() const override { return 48; }
  void Generate(Split, uint64_t, uint64_t, Example* example) const override {
    *example = {std::vector<int32_t>(48, 0),
                std::vector<int32_t>(48, kUnscored),
                std::vector<TokenRole>(48, TokenRole::kContext)};
    if (with_origins_) example->origins.assign(48, kNowhere);
    for (int i = 0; i < 8; ++i) {
      example->targets[40 + i] = 1;
      if (with_origins_) example->origins[40 + i] = 10 * (i % 4);
    }
  }
  double ChanceScore() const override { return 0.1; }
  double ContextGuessScore() const override { return 0.25; }

 private:
  bool with_origins_;
};

TEST(ReferenceMemories, FindWhatTheyHaveRoomForAndGuessTheRest) {
  const FourValues task;
  const std::vector<ReferenceScore> points =
      ReferencesOf(task, 0, 3, /*bytes_per_token=*/8).Curve();
  ASSERT_FALSE(points.empty());
  EXPECT_EQ(points[0].bytes, 32);
  // 32 bytes hold all four pairs, but only four tokens, none of them a value.
  EXPECT_DOUBLE_EQ(points[0].table, 1);
  EXPECT_DOUBLE_EQ(points[0].window, 0.25);
  // 16 tokens before and with positions 43 and 47 reach back to 28 and 32:
  // one of eight questions, the first for position 30, is answered.
  EXPECT_EQ(points[2].bytes, 128);
  EXPECT_DOUBLE_EQ(points[2].window, 0.125 + 0.875 * 0.25);
  // 64 tokens reach everything, and there the curve ends.
  EXPECT_EQ(points.back().bytes, 512);
  EXPECT_DOUBLE_EQ(points.back().window, 1);
}

TEST(ReferenceMemories, ATableKeepsTheLatestPairs) {
  // Room for so little that the smallest table, of four pairs, is too small
  // for eight.
  class EightValues : public FourValues {
   public:
    void Generate(Split split, uint64_t seed, uint64_t index,
                  Example* example) const override {
      FourValues::Generate(split, seed, index, example);
      for (int i = 0; i < 8; ++i) example->origins[40 + i] = 5 * i;
    }
  };
  const EightValues task;
  const ReferenceSheet sheet = ReferencesOf(task, 0, 1, 1);
  EXPECT_DOUBLE_EQ(sheet.At(32).table, 0.5 + 0.5 * 0.25);
  EXPECT_DOUBLE_EQ(sheet.At(7).table, 0.25) << "less than one pair";
  EXPECT_DOUBLE_EQ(sheet.At(64).table, 1);
}

TEST(ReferenceMemories, NeedAnswersThatAreSaidSomewhere) {
  const FourValues task(/*with_origins=*/false);
  const ReferenceSheet sheet = ReferencesOf(task, 0, 3, 8);
  EXPECT_TRUE(sheet.empty());
  EXPECT_TRUE(sheet.Curve().empty());
}

TEST(ReferenceMemories, ScoredPositionsAloneAreEnough) {
  const FourValues task;
  Example scored;
  std::vector<int64_t> positions;
  for (int i = 0; i < 8; ++i) {
    scored.targets.push_back(1);
    scored.origins.push_back(10 * (i % 4));
    positions.push_back(40 + i);
  }
  ReferenceSheet sheet(&task, 8);
  sheet.Add(scored, positions);
  EXPECT_EQ(sheet.At(128).window, ReferencesOf(task, 0, 1, 8).At(128).window);
}

}  // namespace
}  // namespace mneme
