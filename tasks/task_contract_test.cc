// SPDX-License-Identifier: Apache-2.0
//
// Each check passes an honest task and catches the tasks that break its
// promise.

#include "tasks/task_contract.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "attention/tensor/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kLength = 6;
constexpr int64_t kVocabulary = 50;

// Repeats the first two tokens of a random sequence at its end. A subclass of
// it breaks one promise.
class Honest : public Task {
 public:
  int64_t vocabulary() const override { return kVocabulary; }
  int64_t length() const override { return kLength; }
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    Random random(seed, static_cast<uint64_t>(split), index);
    *example = {{}, std::vector<int32_t>(kLength, kUnscored), {}};
    for (int t = 0; t < kLength; ++t) {
      example->tokens.push_back(random.Below(kVocabulary));
    }
    example->targets[4] = example->tokens[0];
    example->targets[5] = example->tokens[1];
    for (const int32_t target : example->targets) {
      example->roles.push_back(target == kUnscored ? TokenRole::kContext
                                                   : TokenRole::kQuery);
    }
  }
  double ChanceScore() const override { return 1.0 / kVocabulary; }
  double ContextGuessScore() const override { return 1.0 / 4; }
};

// Does to each example what it is told to.
class Altered : public Honest {
 public:
  using Alteration = std::function<void(Split, uint64_t, uint64_t, Example*)>;
  explicit Altered(Alteration alteration)
      : alteration_(std::move(alteration)) {}
  void Generate(Split split, uint64_t seed, uint64_t index,
                Example* example) const override {
    Honest::Generate(split, seed, index, example);
    alteration_(split, seed, index, example);
  }

 private:
  Alteration alteration_;
};

template <typename Edit>
Altered Edited(Edit edit) {
  return Altered([edit](Split, uint64_t, uint64_t, Example* e) { edit(e); });
}

#define EXPECT_BROKEN(check, text)                                   \
  do {                                                               \
    const absl::Status status = (check);                             \
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition); \
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));     \
  } while (false)

TEST(TaskContractTest, AnHonestTaskPasses) {
  EXPECT_EQ(CheckWellFormed(Honest()), absl::OkStatus());
  EXPECT_EQ(CheckPure(Honest(), Honest()), absl::OkStatus());
  EXPECT_EQ(CheckStreamsDiffer(Honest()), absl::OkStatus());
  EXPECT_EQ(CheckScores(Honest()), absl::OkStatus());
  EXPECT_EQ(CheckLeaks(Honest()), absl::OkStatus());
}

TEST(TaskContractTest, IllFormedExamplesAreFound) {
  EXPECT_BROKEN(
      CheckWellFormed(Edited([](Example* e) { e->tokens[3] = kVocabulary; })),
      "train example 0 of seed 0: token 50 at position 3 is outside "
      "0..49");
  EXPECT_BROKEN(CheckWellFormed(Edited([](Example* e) { e->tokens[3] = -1; })),
                "token -1");
  EXPECT_BROKEN(
      CheckWellFormed(Edited([](Example* e) { e->targets[5] = kVocabulary; })),
      "target 50 at position 5");
  EXPECT_BROKEN(CheckWellFormed(Edited([](Example* e) { e->targets[5] = -2; })),
                "target -2 at position 5");
  EXPECT_BROKEN(
      CheckWellFormed(Edited([](Example* e) { e->tokens.pop_back(); })),
      "has 5 tokens, 6 targets and 6 roles, not 6");
  EXPECT_BROKEN(CheckWellFormed(Edited(
                    [](Example* e) { e->targets.assign(kLength, kUnscored); })),
                "nothing is scored");
  EXPECT_BROKEN(CheckWellFormed(Edited(
                    [](Example* e) { e->roles[5] = TokenRole::kFiller; })),
                "position 5 is scored but is no query");
  EXPECT_BROKEN(CheckWellFormed(Edited([](Example* e) {
                  e->roles[0] = static_cast<TokenRole>(9);
                })),
                "no role at position 0");
}

// Not the first example and not the first split.
TEST(TaskContractTest, IllFormedExamplesAreFoundInEverySplit) {
  const Altered task([](Split split, uint64_t, uint64_t index, Example* e) {
    if (split == Split::kTest && index == 200) e->tokens[0] = -1;
  });
  EXPECT_BROKEN(CheckWellFormed(task), "test example 200");
}

TEST(TaskContractTest, ImpossibleScoresAreFound) {
  class Worse : public Honest {
    double ContextGuessScore() const override { return 0.001; }
  };
  EXPECT_BROKEN(CheckWellFormed(Worse()), "not in order");
  class Better : public Honest {
    double ContextGuessScore() const override { return 1.5; }
  };
  EXPECT_BROKEN(CheckWellFormed(Better()), "not in order");
}

TEST(TaskContractTest, MemoryOfEarlierExamplesIsFound) {
  // Overwrites all but the last token.
  class Lazy : public Honest {
    void Generate(Split split, uint64_t seed, uint64_t index,
                  Example* example) const override {
      const int32_t left = example->tokens.empty() ? 0 : example->tokens.back();
      Honest::Generate(split, seed, index, example);
      example->tokens.back() = std::abs(left);
    }
  };
  EXPECT_BROKEN(CheckPure(Lazy(), Lazy()), "generated before");

  // Leaves notes and origins as they are.
  class Forgetful : public Honest {
   public:
    explicit Forgetful(bool notes) : notes_(notes) {}
    void Generate(Split split, uint64_t seed, uint64_t index,
                  Example* example) const override {
      Example fresh;
      Honest::Generate(split, seed, index, &fresh);
      (notes_ ? fresh.notes : fresh.origins) =
          notes_ ? example->notes : example->origins;
      *example = fresh;
    }

   private:
    bool notes_;
  };
  for (const bool notes : {false, true}) {
    EXPECT_BROKEN(CheckPure(Forgetful(notes), Forgetful(notes)),
                  "generated before");
  }

  std::atomic<int> calls = 0;
  const Altered counting([&](Split, uint64_t, uint64_t, Example* e) {
    e->tokens[2] = ++calls % kVocabulary;
  });
  EXPECT_BROKEN(CheckPure(counting, counting), "generated before");
}

TEST(TaskContractTest, DifferenceOfATwinIsFound) {
  EXPECT_BROKEN(
      CheckPure(Honest(), Edited([](Example* e) { e->tokens[2] = 0; })),
      "depends on");
}

TEST(TaskContractTest, DifferenceOnOtherThreadsIsFound) {
  const std::thread::id main_thread = std::this_thread::get_id();
  const Altered task([=](Split, uint64_t, uint64_t, Example* e) {
    if (std::this_thread::get_id() != main_thread) e->tokens[2] = 0;
  });
  EXPECT_BROKEN(CheckPure(task, task), "threads");
}

// What a task may not ignore: its split, seed, the seed's high half, its index.
TEST(TaskContractTest, SharedStreamsAreFound) {
  class Mapped : public Honest {
   public:
    using Map = std::function<void(Split*, uint64_t*, uint64_t*)>;
    explicit Mapped(Map map) : map_(std::move(map)) {}
    void Generate(Split split, uint64_t seed, uint64_t index,
                  Example* example) const override {
      map_(&split, &seed, &index);
      Honest::Generate(split, seed, index, example);
    }

   private:
    Map map_;
  };
  EXPECT_BROKEN(
      CheckStreamsDiffer(Mapped([](Split* split, uint64_t*, uint64_t*) {
        if (*split == Split::kTest) *split = Split::kTrain;
      })),
      "test examples are training examples");
  EXPECT_BROKEN(
      CheckStreamsDiffer(Mapped([](Split* split, uint64_t*, uint64_t*) {
        if (*split == Split::kValidation) *split = Split::kTrain;
      })),
      "validation or");
  EXPECT_BROKEN(CheckStreamsDiffer(Mapped(
                    [](Split*, uint64_t* seed, uint64_t*) { *seed = 0; })),
                "seeds 1 and 0");
  EXPECT_BROKEN(
      CheckStreamsDiffer(Mapped([](Split*, uint64_t* seed, uint64_t*) {
        *seed = static_cast<uint32_t>(*seed);
      })),
      "seeds 1 and 4294967297");
  EXPECT_BROKEN(CheckStreamsDiffer(Mapped(
                    [](Split*, uint64_t*, uint64_t* index) { *index = 0; })),
                "the one 1 after it");
  EXPECT_BROKEN(
      CheckStreamsDiffer(Mapped([](Split*, uint64_t*, uint64_t* index) {
        *index = static_cast<uint32_t>(*index);
      })),
      "the one 4294967296 after it");
}

TEST(TaskContractTest, WrongScoresAreFound) {
  class Scored : public Honest {
   public:
    using Scorer = double (*)(double);
    explicit Scored(Scorer scorer) : scorer_(scorer) {}
    double Score(const Example& example,
                 absl::Span<const int32_t> predictions) const override {
      return scorer_(Task::Score(example, predictions));
    }

   private:
    Scorer scorer_;
  };
  EXPECT_EQ(CheckScores(Scored([](double s) { return s * s; })),
            absl::OkStatus());
  for (const Scored::Scorer scorer : std::vector<Scored::Scorer>{
           [](double) { return 1.0; }, [](double) { return 0.0; },
           [](double s) { return 100 * s; },
           [](double s) { return s > 0 ? 1.0 : 0.0; },
           [](double s) { return s > 0 ? s : 0.9; }}) {
    EXPECT_BROKEN(CheckScores(Scored(scorer)), "if all is right");
  }
}

TEST(TaskContractTest, DetailsWithoutNamesAndBeyondOneAreFound) {
  class Detailed : public Honest {
   public:
    explicit Detailed(std::vector<double> details) : details_(details) {}
    std::vector<std::string> DetailNames() const override { return {"recall"}; }
    std::vector<double> Details(const Example&,
                                absl::Span<const int32_t>) const override {
      return details_;
    }

   private:
    std::vector<double> details_;
  };
  EXPECT_EQ(CheckScores(Detailed({0.5})), absl::OkStatus());
  EXPECT_BROKEN(CheckScores(Detailed({})), "0 details and 1 names");
  EXPECT_BROKEN(CheckScores(Detailed({1.5})), "a detail of 1.5");
}

TEST(TaskContractTest, RangesOfAnotherExampleAreFound) {
  class Ranged : public Honest {
   public:
    void GenerateRange(Split split, uint64_t seed, uint64_t index,
                       int64_t first, int64_t count,
                       Example* example) const override {
      Honest::GenerateRange(split, seed, index + (first > 3), first, count,
                            example);
    }
  };
  EXPECT_EQ(CheckRanges(Honest()), absl::OkStatus());
  EXPECT_BROKEN(CheckRanges(Ranged()), "when it is read in ranges");
}

TEST(TaskContractTest, OriginsThatAnswerNothingAreFound) {
  const auto with_origin = [](int32_t at, int32_t origin) {
    return CheckWellFormed(Altered([=](Split, uint64_t, uint64_t, Example* e) {
      e->origins.assign(kLength, kNowhere);
      e->origins[at] = origin;
    }));
  };
  EXPECT_EQ(with_origin(4, 0), absl::OkStatus());
  EXPECT_BROKEN(with_origin(4, 4), "said at 4, which is not before it");
  EXPECT_BROKEN(with_origin(1, 0), "not scored and has an origin");
  EXPECT_BROKEN(
      CheckWellFormed(Altered([](Split, uint64_t, uint64_t, Example* e) {
        e->origins.assign(1, kNowhere);
      })),
      "1 origins for 6 tokens");
}

// The leak of a shuffle that is the same for all examples.
TEST(TaskContractTest, TargetsThatDependOnThePositionAreFound) {
  const Altered task([](Split, uint64_t, uint64_t index, Example* e) {
    if (index % 8 == 0) e->targets[5] = 7;
  });
  EXPECT_BROKEN(CheckLeaks(task), "who knows the position of a question");
}

// The leak of a key that has the same value in all examples.
TEST(TaskContractTest, TargetsThatDependOnTheQuestionAreFound) {
  const Altered task([](Split, uint64_t, uint64_t, Example* e) {
    e->targets[5] = (e->tokens[5] + 20) % kVocabulary;
  });
  EXPECT_BROKEN(CheckLeaks(task), "who knows the last three tokens");
}

// The same where what is asked is a position and not a token: from the last
// token the second token can be told, but only to who asks for it.
TEST(TaskContractTest, TargetsThatDependOnThePositionAskedForAreFound) {
  class FromLast : public Altered {
   public:
    using Altered::Altered;
    bool AnswersFromLastToken() const override { return true; }
    double ContextGuessScore() const override { return 0.7; }
  };
  const auto task = [](bool leaks) {
    return FromLast([=](Split, uint64_t, uint64_t, Example* e) {
      for (int t = 4; leaks && t < 6; ++t) {
        e->targets[t] = (e->tokens[5] + 7 * t) % kVocabulary;
      }
    });
  };
  EXPECT_EQ(CheckLeaks(task(false)), absl::OkStatus());
  EXPECT_BROKEN(CheckLeaks(task(true)), "who knows the last three tokens");
}

// The leak of answers that are said more often than other tokens.
TEST(TaskContractTest, TargetsThatDependOnCountsAreFound) {
  const Altered task([](Split, uint64_t, uint64_t, Example* e) {
    e->tokens[2] = e->tokens[3] = e->tokens[0];
  });
  EXPECT_BROKEN(CheckLeaks(task), "who knows a bag of the tokens");
}

TEST(TaskContractTest, WhatIsDeclaredIsNoLeak) {
  class Open : public Altered {
   public:
    using Altered::Altered;
    LeakFloors Floors() const override { return {0.02, 1, 0.5}; }
  };
  EXPECT_EQ(CheckLeaks(Open([](Split, uint64_t, uint64_t, Example* e) {
              e->tokens[2] = e->tokens[3] = e->tokens[0];
            })),
            absl::OkStatus());
}

TaskPlugin HonestPlugin() {
  TaskDescriptor descriptor;
  descriptor.name = "honest";
  descriptor.group = "copying";
  descriptor.summary = "repeat two tokens";
  descriptor.paper = "none";
  descriptor.options = {OptionSpec::Int("size", 5, 1, 9, "how large"),
                        OptionSpec::Real("rate", 0.1, 0, 1, "how fast"),
                        OptionSpec::Bool("up", false, "whither"),
                        OptionSpec::Choice("kind", "a", {"a", "b"}, "which")};
  descriptor.profiles = {{"quick", {{"size", "3"}}}};
  return {descriptor,
          [](const Options&) { return std::make_unique<Honest>(); }};
}

TEST(TaskContractTest, ACompleteDescriptorPasses) {
  EXPECT_EQ(CheckDescriptor(HonestPlugin()), absl::OkStatus());
  EXPECT_EQ(CheckExtremeOptions(HonestPlugin()), absl::OkStatus());
}

TEST(TaskContractTest, IncompleteDescriptorsAreFound) {
  const auto check = [](const std::function<void(TaskDescriptor*)>& edit) {
    TaskPlugin plugin = HonestPlugin();
    edit(&plugin.descriptor);
    return CheckDescriptor(plugin);
  };
  using D = TaskDescriptor;
  for (const char* name : {"", "Honest", "hon-est", "hon est", "3honest"}) {
    EXPECT_BROKEN(check([=](D* d) { d->name = name; }), "the name");
  }
  EXPECT_BROKEN(check([](D* d) { d->group = ""; }), "must say something");
  EXPECT_BROKEN(check([](D* d) { d->summary = ""; }), "must say something");
  EXPECT_BROKEN(check([](D* d) { d->paper = ""; }), "must say something");
  EXPECT_BROKEN(check([](D* d) { d->summary = "a\nb"; }), "one line");
  EXPECT_BROKEN(check([](D* d) { d->version = 0; }), "versions");
  EXPECT_BROKEN(check([](D* d) { d->options[0].help = ""; }), "no help");
  EXPECT_BROKEN(check([](D* d) { d->options[1].name = "size"; }),
                "two options");
  EXPECT_BROKEN(check([](D* d) { d->options[1].name = "a b"; }), "option name");
  EXPECT_FALSE(check([](D* d) { d->options[0].default_value = "0"; }).ok());
  EXPECT_BROKEN(check([](D* d) { d->profiles.clear(); }), "quick");
  EXPECT_BROKEN(check([](D* d) { d->profiles[0].name = "slow"; }), "quick");
  EXPECT_BROKEN(check([](D* d) { d->profiles.push_back(d->profiles[0]); }),
                "two profiles");
  EXPECT_BROKEN(check([](D* d) {
                  d->profiles[0].values = {{"sise", "3"}};
                }),
                "profile quick: unknown option \"sise\"");
}

TEST(TaskContractTest, ExtremesAreTried) {
  TaskPlugin plugin = HonestPlugin();
  std::vector<std::string> tried;
  plugin.make = [&](const Options& options) {
    std::string text;
    for (const auto& [name, value] : options.ToValues()) text += value + " ";
    tried.push_back(text);
    return std::make_unique<Honest>();
  };
  EXPECT_EQ(CheckExtremeOptions(plugin), absl::OkStatus());
  EXPECT_EQ(tried, (std::vector<std::string>{
                       "1 0.1 false a ", "9 0.1 false a ", "5 0 false a ",
                       "5 1 false a ", "5 0.1 false a ", "5 0.1 true a ",
                       "5 0.1 false a ", "5 0.1 false b "}));
}

TEST(TaskContractTest, ExtremesThatBreakATaskAreFound) {
  TaskPlugin plugin = HonestPlugin();
  const auto refuse_nine = [&](const absl::Status& status) {
    plugin.make =
        [=](const Options& options) -> absl::StatusOr<std::unique_ptr<Task>> {
      if (options.Int("size") == 9) return status;
      return std::make_unique<Honest>();
    };
    return CheckExtremeOptions(plugin);
  };
  EXPECT_EQ(refuse_nine(absl::InvalidArgumentError("size=9 is too many")),
            absl::OkStatus());
  EXPECT_BROKEN(refuse_nine(absl::InternalError("oops")), "size=9 is refused");
  EXPECT_BROKEN(refuse_nine(absl::InvalidArgumentError("")), "size=9");
  EXPECT_BROKEN(refuse_nine(absl::InvalidArgumentError("a\nb")), "size=9");

  plugin.make = [](const Options& options) {
    const bool broken = options.Bool("up");
    return std::make_unique<Altered>(Edited([=](Example* e) {
      if (broken) e->tokens[0] = -1;
    }));
  };
  EXPECT_BROKEN(CheckExtremeOptions(plugin),
                "with up=true an example token -1");
}

}  // namespace
}  // namespace mneme
