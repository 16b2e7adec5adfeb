// SPDX-License-Identifier: Apache-2.0
//
// What is particular to multi-query associative recall. What all tasks have in
// common is in mqar_contract_test.

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tasks/task.h"
#include "tasks/task_contract.h"
#include "tasks/task_testing.h"

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
            "quick: length=64 pairs=8 vocab=64 alpha=1 filler=zero "
            "form=plain updates=0");
  EXPECT_EQ(text(profiles[1]),
            "smoke: length=16 pairs=2 vocab=16 alpha=1 filler=zero "
            "form=plain updates=0");
  EXPECT_EQ(text(profiles[2]),
            "published/zoology: length=64 pairs=4 vocab=8192 alpha=0.01 "
            "filler=zero form=plain updates=0");
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

std::unique_ptr<Task> MakeForm(const std::string& form, int length, int pairs,
                               int vocab, int updates = 0) {
  return MakeTaskOrFail("mqar", {{"form", form},
                                 {"length", std::to_string(length)},
                                 {"pairs", std::to_string(pairs)},
                                 {"vocab", std::to_string(vocab)},
                                 {"updates", std::to_string(updates)}});
}

// Expects that slots from `begin` on ask for each key of `value_of` once, with
// its value at the last token of the key, whose origin says it.
using Keys = std::map<std::vector<int32_t>, int32_t>;
void ExpectAsksForAll(const Example& example, int begin, int key_size,
                      Keys value_of,
                      const std::function<int32_t(int32_t)>& value_in) {
  const int length = example.tokens.size();
  for (int t = 0; t < begin; ++t) {
    EXPECT_EQ(example.targets[t], kUnscored);
    EXPECT_EQ(example.roles[t], TokenRole::kContext);
  }
  for (int t = begin; t < length; ++t) {
    if (example.targets[t] == kUnscored) continue;
    EXPECT_EQ((t - begin) % 2, key_size - 1);
    const std::vector<int32_t> key(example.tokens.begin() + t - key_size + 1,
                                   example.tokens.begin() + t + 1);
    ASSERT_EQ(value_of.count(key), 1) << "not said, or asked for twice";
    EXPECT_EQ(example.targets[t], value_of[key]);
    EXPECT_EQ(value_in(example.tokens[example.origins[t]]), value_of[key]);
    value_of.erase(key);
    if (t + 1 < length && (t + 1 - begin) % 2 == 1) {
      EXPECT_EQ(example.tokens[t + 1], 0) << "no answer follows";
    }
  }
  EXPECT_TRUE(value_of.empty()) << "a key was never asked for";
}

int32_t Itself(int32_t token) { return token; }

TEST(MqarFormsTest, ForgettingWantsTheLastValue) {
  const std::unique_ptr<Task> task = MakeForm("forgetting", 40, 4, 32, 6);
  std::vector<int64_t> updated(4);
  for (uint64_t index = 0; index < 1000; ++index) {
    const Example example = TrainExample(*task, index);
    Keys value_of;
    std::map<int32_t, int> number;  // of a key in the context
    std::set<int32_t> values;
    for (int t = 0; t < 20; t += 2) {
      const int32_t key = example.tokens[t], value = example.tokens[t + 1];
      number.emplace(key, t / 2);
      EXPECT_EQ(t < 8, value_of.count({key}) == 0)
          << "first pairs, then updates";
      EXPECT_TRUE(values.insert(value).second);
      value_of[{key}] = value;
      if (t >= 8) ++updated[number[key]];
    }
    ExpectAsksForAll(example, 20, 1, value_of, Itself);
  }
  ExpectUniform(updated);
}

TEST(MqarFormsTest, CompositionalKeysFillAGrid) {
  for (const int length : {46, 64}) {
    const std::unique_ptr<Task> task = MakeForm("compositional", length, 9, 32);
    std::vector<int64_t> first_has_firsts_row(2);
    for (uint64_t index = 0; index < 300; ++index) {
      const Example example = TrainExample(*task, index);
      Keys value_of;
      std::map<int32_t, int> firsts, seconds;
      for (int t = 0; t < 27; t += 3) {
        ++firsts[example.tokens[t]];
        ++seconds[example.tokens[t + 1]];
        const std::vector<int32_t> key = {example.tokens[t],
                                          example.tokens[t + 1]};
        EXPECT_TRUE(value_of.emplace(key, example.tokens[t + 2]).second);
      }
      // Three of each and every combination, so that no token is enough.
      EXPECT_EQ(firsts.size(), 3);
      EXPECT_EQ(seconds.size(), 3);
      for (const auto& [token, count] : firsts) {
        EXPECT_EQ(count, 3);
        EXPECT_EQ(seconds.count(token), 0);
      }
      ++first_has_firsts_row[example.tokens[0] == example.tokens[3]];
      ExpectAsksForAll(example, 27, 2, value_of, Itself);
    }
    // The second cell is in the first's row as two of eight others are.
    ExpectFits({0.75, 0.25}, first_has_firsts_row);
  }
}

TEST(MqarFormsTest, StackedPairsAreOneToken) {
  const std::unique_ptr<Task> task = MakeForm("stacked", 26, 7, 17);
  // 17 tokens, of which 7 are keys and 9 values.
  EXPECT_EQ(task->vocabulary(), 17 + 7 * 9);
  for (uint64_t index = 0; index < 300; ++index) {
    const Example example = TrainExample(*task, index);
    Keys value_of;
    for (int t = 0; t < 7; ++t) {
      const int32_t pair = example.tokens[t] - 17;
      EXPECT_GE(pair, 0);
      EXPECT_TRUE(
          value_of.emplace(std::vector<int32_t>{1 + pair / 9}, 8 + pair % 9)
              .second);
    }
    ExpectAsksForAll(example, 7, 1, value_of,
                     [](int32_t token) { return 8 + (token - 17) % 9; });
  }
  EXPECT_EQ(task->TokenText(0), "_");
  EXPECT_EQ(task->TokenText(7), "k7");
  EXPECT_EQ(task->TokenText(8), "v1");
  EXPECT_EQ(task->TokenText(17), "k1v1");
  EXPECT_EQ(task->TokenText(17 + 62), "k7v9");
}

TEST(MqarFormsTest, KeepTheContractOfTasks) {
  struct Case {
    std::string form;
    int length, pairs, updates;
  };
  for (const Case& c : std::vector<Case>{{"forgetting", 64, 8, 8},
                                         {"compositional", 64, 9, 0},
                                         {"compositional", 20, 4, 0},
                                         {"stacked", 64, 8, 0},
                                         {"stacked", 6, 2, 0}}) {
    SCOPED_TRACE(c.form);
    const auto make = [&] {
      return MakeForm(c.form, c.length, c.pairs, 32, c.updates);
    };
    const std::unique_ptr<Task> task = make();
    EXPECT_EQ(CheckWellFormed(*task), absl::OkStatus());
    EXPECT_EQ(CheckPure(*task, *make()), absl::OkStatus());
    EXPECT_EQ(CheckScores(*task), absl::OkStatus());
    EXPECT_EQ(CheckLeaks(*task), absl::OkStatus());
  }
}

TEST(MqarFormsTest, ConstraintsAreNamed) {
  EXPECT_EQ(Refusal("mqar", {{"form", "forgetting"}}),
            "mqar: updates=0; form=forgetting has some, the others have none");
  EXPECT_EQ(Refusal("mqar", {{"updates", "4"}}),
            "mqar: updates=4; form=forgetting has some, the others have none");
  EXPECT_EQ(Refusal("mqar", {{"form", "forgetting"}, {"updates", "17"}}),
            "mqar: pairs=8 and updates=17 need length >= 66 (two tokens a pair "
            "in the context, two a query), not 64");
  EXPECT_EQ(
      Refusal("mqar",
              {{"form", "forgetting"}, {"updates", "25"}, {"length", "128"}}),
      "mqar: pairs=8 and updates=25 need vocab >= 65 (values are "
      "different tokens in vocab/2..vocab-1), not 64");
  EXPECT_EQ(Refusal("mqar", {{"form", "compositional"}}),
            "mqar: pairs=8 is no square; keys of form=compositional are a "
            "grid");
  EXPECT_EQ(Refusal("mqar", {{"form", "compositional"}, {"pairs", "16"}}),
            "mqar: pairs=16 need length >= 80 (three tokens a pair in the "
            "context, two a query), not 64");
  EXPECT_EQ(
      Refusal("mqar",
              {{"form", "compositional"}, {"pairs", "9"}, {"vocab", "13"}}),
      "mqar: pairs=9 need vocab >= 14 (keys are different tokens in "
      "1..vocab/2-1), not 13");
  EXPECT_EQ(Refusal("mqar", {{"form", "stacked"}, {"vocab", "1025"}}),
            "mqar: form=stacked needs vocab <= 1024 (each pair of key and "
            "value is a token), not 1025");
}

}  // namespace
}  // namespace mneme
