// SPDX-License-Identifier: Apache-2.0
//
// What is particular to languages learnt in context. What all tasks have in
// common is in dfa_contract_test.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_testing.h"

namespace mneme {
namespace {

std::unique_ptr<Task> Make(const OptionValues& values) {
  return MakeTaskOrFail("dfa", values);
}

// With one state, that is known at every place.
const OptionValues kOneState = {
    {"length", "60"},     {"min_states", "1"}, {"max_states", "1"},
    {"min_edges", "1"},   {"max_edges", "3"},  {"min_symbols", "4"},
    {"max_symbols", "6"}, {"min_string", "3"}, {"max_string", "5"}};

std::set<int32_t> LegalTokens(int32_t mask) {
  std::set<int32_t> tokens;
  for (int symbol = 0; symbol < 26; ++symbol) {
    if (mask >> symbol & 1) tokens.insert(2 + symbol);
  }
  return tokens;
}

// What an example's form tells; expects that form.
struct Reading {
  std::vector<int> strings;  // sizes, of those that are not cut off
  std::set<int32_t> symbols;
};

Reading ExpectIsDfa(const Example& e) {
  Reading reading;
  const int length = e.tokens.size();
  size_t scored = 0;
  int size = 0;
  EXPECT_EQ(e.tokens[0], 1);
  for (int t = 0; t < length; ++t) {
    if (e.tokens[t] == 0) {
      EXPECT_EQ(e.roles[t], TokenRole::kFiller);
      EXPECT_EQ(e.targets[t], kUnscored);
      continue;
    }
    size = e.tokens[t] == 1 ? 0 : size + 1;
    if (e.tokens[t] != 1) reading.symbols.insert(e.tokens[t]);
    const bool ends =
        t + 1 < length ? e.tokens[t + 1] <= 1 : e.targets[t] == kUnscored;
    if (ends) {
      reading.strings.push_back(size);
      EXPECT_EQ(e.targets[t], kUnscored);
      EXPECT_EQ(e.roles[t], TokenRole::kContext);
      continue;
    }
    EXPECT_EQ(e.roles[t], TokenRole::kQuery);
    if (t + 1 < length) {
      EXPECT_EQ(e.targets[t], e.tokens[t + 1]);
    }
    EXPECT_EQ(LegalTokens(e.notes.at(scored++)).count(e.targets[t]), 1);
  }
  EXPECT_EQ(scored, e.notes.size());
  return reading;
}

// Whether the masks are those of some automaton with at most `states` states:
// from a known state a symbol leads to a state whose mask is what comes next.
// Two places reached from state 0 by the same symbols must have the same mask.
void ExpectIsDeterministic(const Example& e) {
  std::map<std::vector<int32_t>, int32_t> mask_after;
  std::vector<int32_t> prefix;
  size_t scored = 0;
  for (size_t t = 0; t < e.tokens.size(); ++t) {
    if (e.tokens[t] == 1) {
      prefix.clear();
    } else {
      prefix.push_back(e.tokens[t]);
    }
    if (e.targets[t] == kUnscored) continue;
    const int32_t mask = e.notes[scored++];
    EXPECT_EQ(mask_after.emplace(prefix, mask).first->second, mask);
  }
}

TEST(DfaTest, ExamplesAreAsDefined) {
  struct Case {
    OptionValues values;
    int length, states, edges, least_symbols, symbols, strings, least, most;
  };
  for (const Case& c : std::vector<Case>{
           {{}, 128, 6, 3, 8, 12, 0, 8, 16},
           {kOneState, 60, 1, 3, 4, 6, 0, 3, 5},
           {{{"length", "950"},
             {"min_states", "4"},
             {"max_states", "12"},
             {"min_edges", "1"},
             {"max_edges", "3"},
             {"min_symbols", "4"},
             {"max_symbols", "18"},
             {"min_strings", "10"},
             {"max_strings", "19"},
             {"min_string", "1"},
             {"max_string", "49"}},
            950,
            12,
            3,
            4,
            18,
            19,
            1,
            49},
           {{{"length", "1"}, {"min_symbols", "1"}, {"max_symbols", "1"}},
            1,
            6,
            1,
            1,
            1,
            0,
            8,
            16}}) {
    SCOPED_TRACE(testing::Message() << "length " << c.length);
    const std::unique_ptr<Task> task = Make(c.values);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), 2 + c.symbols);
    for (uint64_t index = 0; index < 50; ++index) {
      const Example e = TrainExample(*task, index);
      const Reading reading = ExpectIsDfa(e);
      ExpectIsDeterministic(e);
      std::set<int32_t> masks(e.notes.begin(), e.notes.end());
      EXPECT_LE(masks.size(), c.states);
      std::set<int32_t> legal;
      for (const int32_t mask : masks) {
        const std::set<int32_t> tokens = LegalTokens(mask);
        EXPECT_TRUE(1 <= tokens.size() &&
                    tokens.size() <= static_cast<size_t>(c.edges));
        legal.insert(tokens.begin(), tokens.end());
      }
      EXPECT_LE(legal.size(), c.symbols);
      EXPECT_TRUE(std::includes(legal.begin(), legal.end(),
                                reading.symbols.begin(),
                                reading.symbols.end()));
      for (const int n : reading.strings) {
        EXPECT_TRUE(c.least <= n && n <= c.most) << n;
      }
      if (c.strings == 0) {
        EXPECT_NE(e.tokens.back(), 0);
      } else {
        EXPECT_TRUE(10 <= reading.strings.size() &&
                    reading.strings.size() <= 19);
      }
    }
  }
}

TEST(DfaTest, DrawsAreUniform) {
  const std::unique_ptr<Task> task = Make(kOneState);
  std::vector<int64_t> edges(3), symbols(6), sizes(3), of_two(2), of_three(3);
  for (uint64_t index = 0; index < 3000; ++index) {
    const Example e = TrainExample(*task, index);
    const std::set<int32_t> legal = LegalTokens(e.notes[0]);
    ++edges[legal.size() - 1];
    ++symbols[e.tokens[1] - 2];
    ++sizes[ExpectIsDfa(e).strings.at(0) - 3];
    const int rank = std::distance(legal.begin(), legal.find(e.tokens[2]));
    if (legal.size() == 2) ++of_two[rank];
    if (legal.size() == 3) ++of_three[rank];
  }
  ExpectUniform(edges);
  ExpectUniform(symbols);
  ExpectUniform(sizes);
  ExpectUniform(of_two);
  ExpectUniform(of_three);
}

// In a chain of states with one edge each, a string's symbols are a function of
// how far it is, and states come back.
TEST(DfaTest, EdgesLeadToUniformStates) {
  const std::unique_ptr<Task> task = Make({{"length", "17"},
                                           {"min_states", "2"},
                                           {"max_states", "2"},
                                           {"min_edges", "1"},
                                           {"max_edges", "1"},
                                           {"min_symbols", "26"},
                                           {"max_symbols", "26"},
                                           {"min_string", "16"},
                                           {"max_string", "16"}});
  // aaaa (0 to itself), abab, or abbb; ab where both have the same symbol
  // cannot be told from the first.
  std::vector<int64_t> shapes(3);
  for (uint64_t index = 0; index < 5000; ++index) {
    const Example e = TrainExample(*task, index);
    const bool stays = e.tokens[1] == e.tokens[2];
    const bool returns = e.tokens[1] == e.tokens[3];
    ++shapes[stays ? 0 : returns ? 1 : 2];
  }
  const double same = 1.0 / 26;
  ExpectFits({(1 + same) / 2, (1 - same) / 4, (1 - same) / 4}, shapes);
}

TEST(DfaTest, ScoreIsTheFractionOfLegalPredictions) {
  const std::unique_ptr<Task> task = Make(kOneState);
  ASSERT_EQ(task->DetailNames(), std::vector<std::string>{"late"});
  int several = 0;
  for (uint64_t index = 0; index < 20; ++index) {
    const Example e = TrainExample(*task, index);
    const std::set<int32_t> legal = LegalTokens(e.notes[0]);
    const size_t n = e.notes.size();
    several += legal.size() > 1;
    // Any legal symbol will do.
    std::vector<int32_t> predictions(n, *legal.begin());
    EXPECT_EQ(task->Score(e, predictions), 1);
    predictions[0] = 1;  // a separator never is
    EXPECT_EQ(task->Score(e, predictions), (n - 1.0) / n);
    EXPECT_EQ(task->Details(e, predictions), std::vector<double>{1});
    for (size_t i = 0; i < n / 2; ++i) predictions[i] = 0;
    EXPECT_EQ(task->Score(e, predictions), (n - n / 2) * 1.0 / n);
    EXPECT_EQ(task->Details(e, predictions), std::vector<double>{1});
  }
  EXPECT_GT(several, 5);
}

TEST(DfaTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(kOneState);
  EXPECT_NEAR(task->ChanceScore(), 2.0 / 6, 0.01);
  // Any symbol that stood there once is legal; before the first, chance.
  EXPECT_GT(task->ContextGuessScore(), 0.9);
  ExpectGuessScores(*task, 5000, task->ChanceScore(), [](const Example& e) {
    return std::vector<int32_t>(e.notes.size(), 4);
  });

  // States of one edge are left less often than others.
  const std::unique_ptr<Task> published = MakeTaskOrFail(
      "dfa", {{"min_edges", "1"}, {"min_string", "49"}, {"max_string", "49"}});
  EXPECT_LT(published->ChanceScore(), 0.97 * 2 / 12);
  ExpectGuessScores(
      *published, 2000, published->ChanceScore(),
      [](const Example& e) { return std::vector<int32_t>(e.notes.size(), 4); });
}

TEST(DfaTest, TokensHaveTexts) {
  const std::unique_ptr<Task> task = Make({});
  EXPECT_EQ(task->TokenText(0), ".");
  EXPECT_EQ(task->TokenText(1), "|");
  EXPECT_EQ(task->TokenText(13), "l");
}

TEST(DfaTest, ProfilesAreAsDocumented) {
  EXPECT_EQ(
      ProfilesText("dfa"),
      "quick: length=128 min_states=4 max_states=6 min_edges=2 max_edges=3 "
      "min_symbols=8 max_symbols=12 min_strings=0 max_strings=0 "
      "min_string=8 max_string=16\n"
      "smoke: length=32 min_states=4 max_states=6 min_edges=2 max_edges=3 "
      "min_symbols=8 max_symbols=12 min_strings=0 max_strings=0 "
      "min_string=4 max_string=8\n"
      "published/regbench: length=950 min_states=4 max_states=12 "
      "min_edges=1 max_edges=3 min_symbols=4 max_symbols=18 min_strings=10 "
      "max_strings=19 min_string=1 max_string=49\n");
}

TEST(DfaTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("dfa", {{"min_states", "7"}}),
            "dfa: min_states=7 is more than max_states=6");
  EXPECT_EQ(Refusal("dfa", {{"max_edges", "1"}}),
            "dfa: min_edges=2 is more than max_edges=1");
  EXPECT_EQ(Refusal("dfa", {{"max_symbols", "3"}}),
            "dfa: min_symbols=8 is more than max_symbols=3");
  EXPECT_EQ(Refusal("dfa", {{"max_strings", "3"}}),
            "dfa: min_strings=0 fills the length, max_strings=3 does not; set "
            "both to 0");
  EXPECT_EQ(Refusal("dfa", {{"min_string", "17"}}),
            "dfa: min_string=17 is more than max_string=16");
}

}  // namespace
}  // namespace mneme
