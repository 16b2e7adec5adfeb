// SPDX-License-Identifier: Apache-2.0
//
// What is particular to clustering. What all tasks have in common is in
// clustering_contract_test.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "attention/tensor/random.h"
#include "gtest/gtest.h"
#include "tasks/set_score.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

struct Sizes {
  int length, categories, most, items;
};

std::unique_ptr<Task> Make(const Sizes& s,
                           const std::string& answer = "members") {
  return MakeTaskOrFail("clustering",
                        {{"length", std::to_string(s.length)},
                         {"categories", std::to_string(s.categories)},
                         {"most", std::to_string(s.most)},
                         {"items", std::to_string(s.items)},
                         {"answer", answer}});
}

constexpr Sizes kQuick = {64, 3, 3, 32};

// Reads the records of the context and expects nothing but blanks besides; then
// answers the questions from them.
void ExpectIsClustering(const Example& e, const Sizes& s, bool totals) {
  const int slots = totals ? 1 : s.most;
  const int answer = 3 + slots;
  const int category = answer + (totals ? s.most : 1);
  const int item = category + s.categories;
  const int places = s.length - 2 - 2 * s.categories * slots;
  std::map<int32_t, std::set<int32_t>> members;
  std::map<int32_t, int> place_of;
  for (int t = 0; t < places; ++t) {
    EXPECT_EQ(e.targets[t], kUnscored);
    if (e.tokens[t] == 0) {
      EXPECT_EQ(e.roles[t], TokenRole::kFiller);
      continue;
    }
    ASSERT_TRUE(category <= e.tokens[t] && e.tokens[t] < item) << "at " << t;
    ASSERT_LT(t + 1, places);
    EXPECT_TRUE(item <= e.tokens[t + 1] && e.tokens[t + 1] < item + s.items);
    EXPECT_TRUE(place_of.emplace(e.tokens[t + 1], t + 1).second);
    members[e.tokens[t]].insert(e.tokens[t + 1]);
    ++t;
  }
  EXPECT_EQ(members.size(), s.categories);
  EXPECT_EQ(e.tokens[places], 1);
  EXPECT_EQ(e.tokens[places + 1], 2);
  std::set<int32_t> asked;
  int t = places + 2;
  for (int c = 0; c < s.categories; ++c) {
    const int32_t name = e.tokens[t];
    EXPECT_TRUE(asked.insert(name).second) << "asked twice";
    std::vector<int32_t> wanted;
    if (totals) {
      wanted = {static_cast<int32_t>(answer + members[name].size() - 1)};
    } else {
      wanted.assign(members[name].begin(), members[name].end());
      ASSERT_LE(wanted.size(), s.most);
      wanted.resize(s.most, answer);
    }
    for (int slot = 0; slot < slots; ++slot, t += 2) {
      EXPECT_EQ(e.tokens[t], name);
      EXPECT_EQ(e.targets[t], kUnscored);
      EXPECT_EQ(e.tokens[t + 1], 3 + slot);
      EXPECT_EQ(e.roles[t + 1], TokenRole::kQuery);
      EXPECT_EQ(e.targets[t + 1], wanted[slot]);
      const auto place = place_of.find(wanted[slot]);
      EXPECT_EQ(e.origins[t + 1],
                place == place_of.end() ? kNowhere : place->second);
    }
  }
  EXPECT_EQ(t, s.length);
}

TEST(ClusteringTest, ExamplesAreAsDefined) {
  for (const bool totals : {false, true}) {
    for (const Sizes& s : {kQuick, Sizes{24, 2, 2, 16}, Sizes{10, 2, 1, 2},
                           Sizes{38, 3, 3, 9}, Sizes{500, 5, 7, 100}}) {
      SCOPED_TRACE(s.length);
      const std::unique_ptr<Task> task = Make(s, totals ? "totals" : "members");
      EXPECT_EQ(task->length(), s.length);
      for (uint64_t index = 0; index < 50; ++index) {
        ExpectIsClustering(TrainExample(*task, index), s, totals);
      }
    }
  }
}

TEST(ClusteringTest, DrawsAreUniform) {
  const std::unique_ptr<Task> task = Make({40, 3, 4, 12}, "totals");
  // Tokens: 3 marks, a slot, 4 totals, 3 categories, items.
  std::vector<int64_t> sizes(4), first_asked(3), items(12), first_said(3);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    ++sizes[WantedTokens(e)[0] - 4];
    ++first_asked[e.tokens[34] - 8];
    int t = 0;
    while (e.tokens[t] == 0) ++t;
    ++first_said[e.tokens[t] - 8];
    ++items[e.tokens[t + 1] - 11];
  }
  ExpectUniform(sizes);
  ExpectUniform(first_asked);
  ExpectUniform(first_said);
  ExpectUniform(items);
}

TEST(ClusteringTest, CategoriesAreRightAsWholeSets) {
  const std::unique_ptr<Task> task = Make({24, 2, 2, 16});
  // Tokens: 3 marks, 2 slots, "no" = 5, 2 categories, items 8 ... 23.
  Example e = TrainExample(*task, 0);
  const std::vector<int32_t> wanted = {9, 20, 13, 5};
  size_t next = 0;
  for (int32_t& target : e.targets) {
    if (target != kUnscored) target = wanted[next++];
  }
  const auto details = [&](const std::vector<int32_t>& said) {
    return task->Details(e, said);
  };
  EXPECT_EQ(task->Score(e, wanted), 1);
  EXPECT_EQ(details(wanted), (std::vector<double>{1, 1}));
  EXPECT_EQ(task->Score(e, {20, 9, 5, 13}), 1) << "order does not count";
  EXPECT_EQ(task->Score(e, {20, 9, 13, 13}), 1) << "nor do repetitions";
  EXPECT_EQ(task->Score(e, {9, 5, 13, 5}), 0.5) << "a member is missing";
  EXPECT_DOUBLE_EQ(details({9, 5, 13, 5})[0], (2.0 / 3 + 1) / 2);
  EXPECT_EQ(details({9, 5, 13, 5})[1], 0);
  EXPECT_EQ(task->Score(e, {9, 20, 13, 14}), 0.5) << "one is too many";
  EXPECT_EQ(task->Score(e, {13, 5, 9, 20}), 0) << "of the other category";
  EXPECT_EQ(details({5, 5, 5, 5}), (std::vector<double>{0, 0}));
}

TEST(ClusteringTest, GuessesOfMembersAreWorthWhatIsClaimed) {
  // Small, so that chance is seen at all.
  const std::unique_ptr<Task> task = Make({24, 2, 2, 4});
  Random random(/*seed=*/0, StreamId("clustering_test"));
  // Tokens: "no" = 5, categories 6 and 7, items 8 ... 11.
  EXPECT_DOUBLE_EQ(task->ChanceScore(), (3.0 / 25 + 2.0 / 25) / 2);
  ExpectGuessScores(*task, 20000, task->ChanceScore(), [&](const Example&) {
    std::vector<int32_t> guess(4);
    for (int32_t& token : guess) {
      const int32_t drawn = random.Below(5);
      token = drawn == 4 ? 5 : 8 + drawn;
    }
    return guess;
  });
  ExpectGuessScores(*task, 20000, task->Floors().position, [](const Example&) {
    return std::vector<int32_t>{8, 5, 10, 5};
  });
  // 1 of 2 or 3, 2 of 3 or 4.
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(),
                   (1.0 / 2 + 1.0 / 3 + 1.0 / 3 + 1.0 / 6) / 4);
  ExpectGuessScores(
      *task, 20000, task->ContextGuessScore(), [&](const Example& e) {
        std::vector<int32_t> present;
        for (const int32_t token : e.tokens) {
          if (token >= 8) present.push_back(token);
        }
        std::vector<int32_t> guess;
        const std::vector<int32_t> wanted = WantedTokens(e);
        for (int c = 0; c < 2; ++c) {
          Shuffle(absl::MakeSpan(present), &random);
          guess.push_back(present[0]);
          guess.push_back(wanted[2 * c + 1] == 5 ? 5 : present[1]);
        }
        return guess;
      });
}

TEST(ClusteringTest, GuessesOfTotalsAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make({64, 4, 6, 32}, "totals");
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 6);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 6);
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [](const Example&) {
    return std::vector<int32_t>{4, 9, 6, 6};
  });
}

TEST(ClusteringTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(ProfilesText("clustering"),
            "quick: length=64 categories=3 most=3 items=32 answer=members\n"
            "smoke: length=24 categories=2 most=2 items=16 answer=members\n"
            "totals: length=64 categories=4 most=6 items=32 answer=totals\n");
}

TEST(ClusteringTest, TokensHaveTexts) {
  std::string text;
  const std::unique_ptr<Task> members = Make({24, 2, 2, 4});
  for (int32_t token = 0; token < members->vocabulary(); ++token) {
    text += members->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "_ | = ?1 ?2 no C1 C2 i1 i2 i3 i4 ");
  const std::unique_ptr<Task> totals = Make({24, 2, 2, 4}, "totals");
  text = "";
  for (int32_t token = 3; token < totals->vocabulary(); ++token) {
    text += totals->TokenText(token) + " ";
  }
  EXPECT_EQ(text, "?1 1 2 C1 C2 i1 i2 i3 i4 ");
}

TEST(ClusteringTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("clustering", {{"items", "8"}}),
            "clustering: categories=3 of up to most=3 members need items >= 9, "
            "not 8");
  EXPECT_EQ(Refusal("clustering", {{"length", "37"}}),
            "clustering: categories=3 of up to most=3 members need length >= "
            "38 (two tokens a record, 20 for the question), not 37");
  // One step to the right side of each.
  EXPECT_TRUE(TryMakeTask("clustering", {{"items", "9"}}).ok());
  EXPECT_TRUE(TryMakeTask("clustering", {{"length", "38"}}).ok());
}

}  // namespace
}  // namespace mneme
