// SPDX-License-Identifier: Apache-2.0
//
// What is particular to multi-query associative recall. What all tasks have in
// common is in mqar_contract_test.

#include <boost/math/distributions/chi_squared.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"

namespace mneme {
namespace {

const TaskPlugin& Plugin() { return **Tasks().Find("mqar"); }

absl::StatusOr<std::unique_ptr<Task>> TryMake(const OptionValues& values) {
  const absl::StatusOr<Options> options =
      Options::Parse(Plugin().descriptor.options, values);
  if (!options.ok()) return options.status();
  return Plugin().make(*options);
}

std::unique_ptr<Task> Make(int length, int pairs, int vocab, double alpha,
                           const std::string& filler = "zero") {
  auto task = TryMake({{"length", std::to_string(length)},
                       {"pairs", std::to_string(pairs)},
                       {"vocab", std::to_string(vocab)},
                       {"alpha", std::to_string(alpha)},
                       {"filler", filler}});
  EXPECT_TRUE(task.ok()) << task.status();
  return *std::move(task);
}

Example Generate(const Task& task, uint64_t index) {
  Example example;
  task.Generate(Split::kTrain, /*seed=*/0, index, &example);
  return example;
}

// The slot of each key, in the order of the context.
std::vector<int> Slots(const Example& example, int pairs) {
  std::map<int32_t, int> slot_of;
  for (size_t t = 2 * pairs; t < example.tokens.size(); ++t) {
    if (example.targets[t] == kUnscored) continue;
    slot_of[example.tokens[t]] = (t - 2 * pairs) / 2;
  }
  std::vector<int> slots;
  for (int pair = 0; pair < pairs; ++pair) {
    slots.push_back(slot_of.at(example.tokens[2 * pair]));
  }
  return slots;
}

// Expects counts to fit the probabilities, which sum to 1. Seeds are fixed; a
// sound task fails one in a million.
void ExpectFits(const std::vector<double>& probabilities,
                const std::vector<int64_t>& counts) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  double statistic = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = total * probabilities[i];
    ASSERT_GE(expected, 5) << "too few draws for a chi-square test";
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  const boost::math::chi_squared distribution(counts.size() - 1.0);
  EXPECT_LT(statistic, quantile(complement(distribution, 1e-6)));
}

void ExpectUniform(const std::vector<int64_t>& counts) {
  ExpectFits(std::vector<double>(counts.size(), 1.0 / counts.size()), counts);
}

// Everything the definition says of one example with zero filler.
void ExpectIsMqar(const Example& example, int pairs, int vocab) {
  const int length = example.tokens.size();
  std::map<int32_t, int32_t> value_of;
  std::set<int32_t> values;
  for (int t = 0; t < 2 * pairs; t += 2) {
    const int32_t key = example.tokens[t];
    const int32_t value = example.tokens[t + 1];
    EXPECT_TRUE(1 <= key && key < vocab / 2) << key;
    EXPECT_TRUE(vocab / 2 <= value && value < vocab) << value;
    EXPECT_TRUE(value_of.emplace(key, value).second) << "a key stands twice";
    EXPECT_TRUE(values.insert(value).second) << "a value stands twice";
    for (const int u : {t, t + 1}) {
      EXPECT_EQ(example.targets[u], kUnscored);
      EXPECT_EQ(example.roles[u], TokenRole::kContext);
    }
  }
  for (int t = 2 * pairs; t < length; t += 2) {
    // A slot: maybe a key that was not asked for before, and never its answer.
    if (example.tokens[t] == 0) {
      EXPECT_EQ(example.targets[t], kUnscored);
      EXPECT_EQ(example.roles[t], TokenRole::kFiller);
    } else {
      const auto pair = value_of.find(example.tokens[t]);
      ASSERT_NE(pair, value_of.end()) << "asks for what was not said, or twice";
      EXPECT_EQ(example.targets[t], pair->second);
      ASSERT_NE(example.origins[t], kNowhere);
      EXPECT_EQ(example.tokens[example.origins[t]], pair->second);
      EXPECT_EQ(example.roles[t], TokenRole::kQuery);
      value_of.erase(pair);
    }
    EXPECT_EQ(example.tokens[t + 1], 0);
    EXPECT_EQ(example.targets[t + 1], kUnscored);
    EXPECT_EQ(example.roles[t + 1], TokenRole::kFiller);
  }
  EXPECT_TRUE(value_of.empty()) << "a key was never asked for";
}

TEST(MqarTest, ExamplesAreAsDefined) {
  struct Case {
    int length, pairs, vocab;
    double alpha;
  };
  for (const Case& c : std::vector<Case>{{64, 8, 64, 1},
                                         {16, 2, 16, 1},
                                         {64, 4, 8192, 0.01},
                                         {512, 64, 8192, 0.01},
                                         {4, 1, 4, 0},    // the smallest
                                         {32, 8, 18, 2},  // L = 4K, K = V/2 - 1
                                         {34, 8, 19, 1}}) {  // V odd
    SCOPED_TRACE(testing::Message() << "length " << c.length << ", pairs "
                                    << c.pairs << ", vocab " << c.vocab);
    const std::unique_ptr<Task> task =
        Make(c.length, c.pairs, c.vocab, c.alpha);
    EXPECT_EQ(task->length(), c.length);
    EXPECT_EQ(task->vocabulary(), c.vocab);
    for (uint64_t index = 0; index < 50; ++index) {
      ExpectIsMqar(Generate(*task, index), c.pairs, c.vocab);
    }
  }
}

TEST(MqarTest, EverySlotIsAQueryAtFourTimesThePairs) {
  const std::unique_ptr<Task> task = Make(32, 8, 64, 0.01);
  const Example example = Generate(*task, 0);
  for (int t = 16; t < 32; ++t) {
    EXPECT_EQ(example.targets[t] != kUnscored, t % 2 == 0) << t;
  }
}

// Random filler changes the filler and nothing else.
TEST(MqarTest, RandomFillerIsUniformAndOnlyFiller) {
  constexpr int kVocab = 64;
  const std::unique_ptr<Task> zero = Make(64, 8, kVocab, 1, "zero");
  const std::unique_ptr<Task> random = Make(64, 8, kVocab, 1, "random");
  std::vector<int64_t> counts(kVocab);
  for (uint64_t index = 0; index < 400; ++index) {
    Example expected = Generate(*zero, index);
    const Example example = Generate(*random, index);
    EXPECT_EQ(example.targets, expected.targets);
    EXPECT_EQ(example.roles, expected.roles);
    for (size_t t = 0; t < example.tokens.size(); ++t) {
      if (example.roles[t] == TokenRole::kFiller) {
        ++counts[example.tokens[t]];
      } else {
        EXPECT_EQ(example.tokens[t], expected.tokens[t]);
      }
    }
  }
  ExpectUniform(counts);
}

TEST(MqarTest, KeysAndValuesAreUniform) {
  const std::unique_ptr<Task> task = Make(16, 3, 21, 1);
  // By place in the context: which key of 1..9, which value of 10..20.
  std::vector<std::vector<int64_t>> keys(3, std::vector<int64_t>(9));
  std::vector<std::vector<int64_t>> values(3, std::vector<int64_t>(11));
  for (uint64_t index = 0; index < 3000; ++index) {
    const Example example = Generate(*task, index);
    for (int pair = 0; pair < 3; ++pair) {
      ++keys[pair][example.tokens[2 * pair] - 1];
      ++values[pair][example.tokens[2 * pair + 1] - 10];
    }
  }
  for (int pair = 0; pair < 3; ++pair) {
    ExpectUniform(keys[pair]);
    ExpectUniform(values[pair]);
  }
}

// The first pair's slot has probability p_i, and the second's, given the
// first's, p_j / (1 - p_i).
TEST(MqarTest, SlotsFollowThePowerLawInTheOrderOfTheContext) {
  constexpr int kSlots = 6;
  for (const double alpha : {0.01, 0.5, 1.0}) {
    SCOPED_TRACE(alpha);
    std::vector<double> p;
    for (int i = 1; i <= kSlots; ++i) p.push_back(std::pow(i, alpha - 1));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    std::vector<double> probabilities;
    for (int a = 0; a < kSlots; ++a) {
      for (int b = 0; b < kSlots; ++b) {
        if (a == b) continue;
        probabilities.push_back(p[a] / sum * p[b] / (sum - p[a]));
      }
    }
    const std::unique_ptr<Task> task = Make(16, 2, 16, alpha);
    std::vector<int64_t> counts(probabilities.size());
    for (uint64_t index = 0; index < 20000; ++index) {
      const std::vector<int> slots = Slots(Generate(*task, index), 2);
      ++counts[slots[0] * (kSlots - 1) + slots[1] - (slots[1] > slots[0])];
    }
    ExpectFits(probabilities, counts);
  }
}

TEST(MqarTest, GuessesAreWorthWhatIsClaimed) {
  const std::unique_ptr<Task> task = Make(64, 8, 64, 1);
  EXPECT_DOUBLE_EQ(task->ChanceScore(), 1.0 / 32);
  EXPECT_DOUBLE_EQ(task->ContextGuessScore(), 1.0 / 8);
  EXPECT_DOUBLE_EQ(Make(64, 8, 65, 1)->ChanceScore(), 1.0 / 33);
  // Whoever always answers the first value of the context has 1 in 8.
  double total = 0;
  for (uint64_t index = 0; index < 100; ++index) {
    const Example example = Generate(*task, index);
    total += task->Score(example, std::vector<int32_t>(8, example.tokens[1]));
  }
  EXPECT_DOUBLE_EQ(total / 100, task->ContextGuessScore());
}

TEST(MqarTest, ProfilesAreAsDocumented) {
  const auto text = [](const TaskProfile& profile) {
    std::string text = profile.name + ":";
    const auto options =
        Options::Parse(Plugin().descriptor.options, profile.values);
    EXPECT_TRUE(options.ok()) << options.status();
    for (const auto& [name, value] : options->ToValues()) {
      text += " " + name + "=" + value;
    }
    return text;
  };
  const std::vector<TaskProfile>& profiles = Plugin().descriptor.profiles;
  ASSERT_EQ(profiles.size(), 3);
  EXPECT_EQ(text(profiles[0]),
            "quick: length=64 pairs=8 vocab=64 alpha=1 filler=zero");
  EXPECT_EQ(text(profiles[1]),
            "smoke: length=16 pairs=2 vocab=16 alpha=1 filler=zero");
  EXPECT_EQ(text(profiles[2]),
            "published/zoology: length=64 pairs=4 vocab=8192 alpha=0.01 "
            "filler=zero");
}

TEST(MqarTest, ConstraintsAreNamed) {
  const auto refusal = [](const OptionValues& values) {
    const absl::Status status = TryMake(values).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(refusal({{"length", "63"}}),
            "mqar: length=63 is odd; slots are two tokens wide");
  EXPECT_EQ(refusal({{"pairs", "17"}}),
            "mqar: pairs=17 need length >= 68 (two tokens a pair in the "
            "context, two a query), not 64");
  EXPECT_EQ(refusal({{"vocab", "17"}}),
            "mqar: pairs=8 need vocab >= 18 (keys are different tokens in "
            "1..vocab/2-1), not 17");
  EXPECT_EQ(refusal({{"pairs", "0"}}),
            "option \"pairs\": \"0\" is not an integer in 1..262144");
  // One step to the right side of each.
  EXPECT_TRUE(TryMake({{"length", "62"}}).ok());
  EXPECT_TRUE(TryMake({{"pairs", "16"}}).ok());
  EXPECT_TRUE(TryMake({{"vocab", "18"}}).ok());
}

}  // namespace
}  // namespace mneme
