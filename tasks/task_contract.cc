// SPDX-License-Identifier: Apache-2.0

#include "tasks/task_contract.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tasks/leak_probes.h"

namespace mneme {
namespace {

constexpr Split kSplits[] = {Split::kTrain, Split::kValidation, Split::kTest};

template <typename... Parts>
absl::Status Broken(const Parts&... parts) {
  return absl::FailedPreconditionError(absl::StrCat(parts...));
}

std::string Place(Split split, uint64_t seed, uint64_t index) {
  return absl::StrCat(SplitName(split), " example ", index, " of seed ", seed);
}

// How many examples a check looks at, so that long tasks stay quick to check.
uint64_t Examples(const Task& task, uint64_t wanted) {
  const uint64_t affordable = 1'000'000 / std::max<int64_t>(task.length(), 1);
  return std::clamp<uint64_t>(affordable, 1, wanted);
}

Example Generate(const Task& task, Split split, uint64_t seed, uint64_t index) {
  Example example;
  task.Generate(split, seed, index, &example);
  return example;
}

bool Same(const Example& a, const Example& b) {
  return a.tokens == b.tokens && a.targets == b.targets && a.roles == b.roles &&
         a.origins == b.origins && a.notes == b.notes;
}

// An answer is given away before it is asked for, and only where it is asked.
absl::Status CheckOrigins(const Example& example) {
  if (example.origins.empty()) return absl::OkStatus();
  if (example.origins.size() != example.tokens.size()) {
    return Broken("has ", example.origins.size(), " origins for ",
                  example.tokens.size(), " tokens");
  }
  for (size_t t = 0; t < example.origins.size(); ++t) {
    const int32_t origin = example.origins[t];
    if (origin == kNowhere) continue;
    if (example.targets[t] == kUnscored) {
      return Broken("position ", t, " is not scored and has an origin");
    }
    if (origin < 0 || origin >= static_cast<int64_t>(t)) {
      return Broken("the answer at position ", t, " is said at ", origin,
                    ", which is not before it");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckExample(const Task& task, const Example& example) {
  const size_t length = task.length();
  if (example.tokens.size() != length || example.targets.size() != length ||
      example.roles.size() != length) {
    return Broken("has ", example.tokens.size(), " tokens, ",
                  example.targets.size(), " targets and ", example.roles.size(),
                  " roles, not ", length);
  }
  bool scored = false;
  for (size_t t = 0; t < length; ++t) {
    const int32_t token = example.tokens[t];
    const int32_t target = example.targets[t];
    if (token < 0 || token >= task.vocabulary()) {
      return Broken("token ", token, " at position ", t, " is outside 0..",
                    task.vocabulary() - 1);
    }
    if (example.roles[t] > TokenRole::kQuery) {
      return Broken("has no role at position ", t);
    }
    if (target == kUnscored) continue;
    scored = true;
    if (target < 0 || target >= task.vocabulary()) {
      return Broken("target ", target, " at position ", t, " is outside 0..",
                    task.vocabulary() - 1);
    }
    if (example.roles[t] != TokenRole::kQuery) {
      return Broken("position ", t, " is scored but is no query");
    }
  }
  return scored ? CheckOrigins(example) : Broken("nothing is scored");
}

// A file name, a Bazel target and a command-line value.
bool IsName(absl::string_view name) {
  return !name.empty() && absl::ascii_islower(name[0]) &&
         absl::c_all_of(name, [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '_';
         });
}

absl::Status CheckOptionSpecs(const std::vector<OptionSpec>& specs) {
  std::set<std::string> names;
  for (const OptionSpec& spec : specs) {
    if (!IsName(spec.name)) return Broken("option name \"", spec.name, "\"");
    if (spec.help.empty()) return Broken("option ", spec.name, " has no help");
    if (!names.insert(spec.name).second) {
      return Broken("two options are called ", spec.name);
    }
  }
  return Options::Parse(specs).status();
}

// The ends of an option's range, as text.
std::vector<std::string> Extremes(const OptionSpec& spec) {
  switch (spec.kind) {
    case OptionSpec::Kind::kInt:
      return {absl::StrFormat("%.0f", spec.min),
              absl::StrFormat("%.0f", spec.max)};
    case OptionSpec::Kind::kReal:
      return {absl::StrFormat("%.17g", spec.min),
              absl::StrFormat("%.17g", spec.max)};
    case OptionSpec::Kind::kBool:
      return {"false", "true"};
    case OptionSpec::Kind::kText:
      return {"", "no such thing"};
    case OptionSpec::Kind::kChoice:
      break;
  }
  return spec.choices;
}

std::vector<int32_t> ScoredTargets(const Example& example) {
  std::vector<int32_t> targets;
  for (const int32_t target : example.targets) {
    if (target != kUnscored) targets.push_back(target);
  }
  return targets;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Task>> MakeTask(const TaskPlugin& plugin,
                                               const TaskProfile& profile) {
  absl::StatusOr<Options> options =
      Options::Parse(plugin.descriptor.options, profile.values);
  if (!options.ok()) return options.status();
  return plugin.make(*options);
}

absl::Status CheckDescriptor(const TaskPlugin& plugin) {
  const TaskDescriptor& descriptor = plugin.descriptor;
  if (!IsName(descriptor.name)) {
    return Broken("the name \"", descriptor.name,
                  "\" is not made of a-z, 0-9 and _");
  }
  if (descriptor.group.empty() || descriptor.summary.empty() ||
      descriptor.paper.empty()) {
    return Broken("group, summary and paper must say something");
  }
  if (absl::StrContains(descriptor.summary, '\n')) {
    return Broken("the summary is more than one line");
  }
  if (descriptor.version < 1) return Broken("versions start at 1");
  const absl::Status options = CheckOptionSpecs(descriptor.options);
  if (!options.ok()) return options;

  if (descriptor.profiles.empty() || descriptor.profiles[0].name != "quick") {
    return Broken("the first profile is not \"quick\"");
  }
  std::set<std::string> names;
  for (const TaskProfile& profile : descriptor.profiles) {
    if (!names.insert(profile.name).second) {
      return Broken("two profiles are called ", profile.name);
    }
    const absl::Status made = MakeTask(plugin, profile).status();
    if (!made.ok()) {
      return Broken("profile ", profile.name, ": ", made.message());
    }
  }
  return absl::OkStatus();
}

absl::Status CheckExtremeOptions(const TaskPlugin& plugin) {
  for (const OptionSpec& spec : plugin.descriptor.options) {
    for (const std::string& text : Extremes(spec)) {
      const TaskProfile profile = {"", {{spec.name, text}}};
      const absl::StatusOr<std::unique_ptr<Task>> task =
          MakeTask(plugin, profile);
      if (!task.ok()) {
        if (absl::IsInvalidArgument(task.status()) &&
            !task.status().message().empty() &&
            !absl::StrContains(task.status().message(), '\n')) {
          continue;
        }
        return Broken(spec.name, "=", text, " is refused with \"",
                      task.status().ToString(), "\"");
      }
      const absl::Status status =
          CheckExample(**task, Generate(**task, Split::kTrain, 0, 0));
      if (!status.ok()) {
        return Broken("with ", spec.name, "=", text, " an example ",
                      status.message());
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckWellFormed(const Task& task) {
  if (task.length() < 1) return Broken("length() is ", task.length());
  if (task.vocabulary() < 2)
    return Broken("vocabulary() is ", task.vocabulary());
  if (!(task.ChanceScore() >= 0 &&
        task.ChanceScore() <= task.ContextGuessScore() &&
        task.ContextGuessScore() <= 1)) {
    return Broken("chance score ", task.ChanceScore(),
                  " and context guess score ", task.ContextGuessScore(),
                  " are not in order within 0..1");
  }
  for (const Split split : kSplits) {
    for (uint64_t index = 0; index < Examples(task, 300); ++index) {
      const absl::Status status =
          CheckExample(task, Generate(task, split, 0, index));
      if (!status.ok()) {
        return Broken(Place(split, 0, index), ": ", status.message());
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPure(const Task& task, const Task& twin) {
  const uint64_t examples = Examples(task, 50);
  std::vector<Example> expected;
  for (uint64_t index = 0; index < examples; ++index) {
    expected.push_back(Generate(task, Split::kTrain, 1, index));
  }

  // Backwards, over what the last call left, and over memory of another size.
  Example reused;
  reused.tokens.assign(3, -7);
  reused.targets.assign(2 * task.length() + 1, 5);
  reused.roles.assign(1, TokenRole::kQuery);
  reused.origins.assign(2, 0);
  reused.notes.assign(4, 9);
  for (uint64_t index = examples; index-- > 0;) {
    twin.Generate(Split::kTrain, 1, index, &reused);
    if (!Same(reused, expected[index])) {
      return Broken(Place(Split::kTrain, 1, index),
                    " depends on what was generated before it");
    }
  }

  constexpr int kThreads = 4;
  std::vector<uint64_t> wrong(kThreads, examples);  // the first, by thread
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < examples; ++i) {
        const uint64_t index = (i + thread * examples / kThreads) % examples;
        if (!Same(Generate(task, Split::kTrain, 1, index), expected[index])) {
          wrong[thread] = index;
          return;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const uint64_t index : wrong) {
    if (index != examples) {
      return Broken(Place(Split::kTrain, 1, index),
                    " comes out differently when threads run side by side");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStreamsDiffer(const Task& task) {
  // Tasks can be so small that two examples agree by accident; not half of
  // them.
  const uint64_t examples = std::max<uint64_t>(Examples(task, 50), 4);
  const auto differs = [&](Split split, uint64_t seed, uint64_t offset) {
    uint64_t same = 0;
    for (uint64_t index = 0; index < examples; ++index) {
      same += Same(Generate(task, Split::kTrain, 1, index),
                   Generate(task, split, seed, index + offset));
    }
    return 2 * same < examples;
  };
  if (!differs(Split::kValidation, 1, 0) || !differs(Split::kTest, 1, 0)) {
    return Broken("validation or test examples are training examples");
  }
  for (const uint64_t seed :
       {uint64_t{0}, uint64_t{2}, uint64_t{1} << 32 | 1}) {
    if (!differs(Split::kTrain, seed, 0)) {
      return Broken("seeds 1 and ", seed, " give the same examples");
    }
  }
  for (const uint64_t offset : {uint64_t{1}, uint64_t{1} << 32}) {
    if (!differs(Split::kTrain, 1, offset)) {
      return Broken("an example and the one ", offset,
                    " after it are the same");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRanges(const Task& task) {
  const int64_t length = task.length();
  const int64_t thirds[] = {0, length / 3, length - length / 3, length};
  for (uint64_t index = 0; index < Examples(task, 20); ++index) {
    const Example whole = Generate(task, Split::kTest, 4, index);
    Example joined, part;
    joined.notes = whole.notes;
    for (int i = 0; i < 3; ++i) {
      const int64_t count = thirds[i + 1] - thirds[i];
      task.GenerateRange(Split::kTest, 4, index, thirds[i], count, &part);
      if (static_cast<int64_t>(part.tokens.size()) != count) {
        return Broken(Place(Split::kTest, 4, index), ": a range of ", count,
                      " positions has ", part.tokens.size());
      }
      const auto append = [](const auto& from, auto* to) {
        to->insert(to->end(), from.begin(), from.end());
      };
      append(part.tokens, &joined.tokens);
      append(part.targets, &joined.targets);
      append(part.roles, &joined.roles);
      append(part.origins, &joined.origins);
    }
    if (!Same(joined, whole)) {
      return Broken(Place(Split::kTest, 4, index),
                    " is another one when it is read in ranges");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckScores(const Task& task) {
  for (uint64_t index = 0; index < Examples(task, 50); ++index) {
    const Example example = Generate(task, Split::kTest, 2, index);
    const std::vector<int32_t> targets = ScoredTargets(example);
    // A token that is asked for nowhere, where there is one: what counts as
    // found in a set must not be found by accident.
    int32_t unwanted = 0;
    while (absl::c_linear_search(targets, unwanted)) ++unwanted;
    const auto wrong = [&](int32_t token) -> int32_t {
      return unwanted < task.vocabulary() ? unwanted
                                          : (token + 1) % task.vocabulary();
    };
    std::vector<int32_t> predictions = targets;
    const double right_score = task.Score(example, predictions);
    predictions[0] = wrong(predictions[0]);
    const double nearly_right_score = task.Score(example, predictions);
    for (size_t i = 0; i < targets.size(); ++i) {
      predictions[i] = wrong(targets[i]);
    }
    const double wrong_score = task.Score(example, predictions);
    if (right_score != 1 || !(wrong_score >= 0) ||
        !(wrong_score <= nearly_right_score) || !(nearly_right_score < 1)) {
      return Broken(Place(Split::kTest, 2, index), " scores ", right_score,
                    " if all is right, ", nearly_right_score,
                    " if all but one is, ", wrong_score, " if all is wrong");
    }
    for (const std::vector<int32_t>& answers : {targets, predictions}) {
      const std::vector<double> details = task.Details(example, answers);
      if (details.size() != task.DetailNames().size()) {
        return Broken("has ", details.size(), " details and ",
                      task.DetailNames().size(), " names for them");
      }
      for (const double detail : details) {
        if (!(detail >= 0 && detail <= 1)) {
          return Broken(Place(Split::kTest, 2, index), " has a detail of ",
                        detail, ", which is not in 0..1");
        }
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLeaks(const Task& task) {
  const LeakFloors floors = task.Floors();
  // Looking into a bag takes a while where every position is scored.
  constexpr uint64_t kMostScored = 20'000;
  const uint64_t scored =
      ScoredTargets(Generate(task, Split::kTrain, 3, 0)).size();
  const uint64_t examples = std::clamp<uint64_t>(
      kMostScored / std::max<uint64_t>(scored, 1), 1, Examples(task, 4000));
  const LeakScores scores = ScoreLeakProbes(task, /*seed=*/3, examples);
  struct Line {
    const char* model;
    double score, floor;
  };
  for (const Line& line :
       {Line{"the position of a question", scores.position, floors.position},
        Line{"a bag of the tokens up to it", scores.bag, floors.bag},
        Line{"the last three tokens", scores.ngram, floors.ngram}}) {
    if (!(line.floor >= 0 && line.floor <= 1)) {
      return Broken("the floor of ", line.model, " is ", line.floor,
                    ", not in 0..1");
    }
    // A score within 0..1 of mean m has variance m (1 - m) at most. Five
    // standard errors, and one example for the tails of very small chances.
    const double n = static_cast<double>(examples);
    const double bound =
        line.floor + 5 * std::sqrt(line.floor * (1 - line.floor) / n) + 1 / n;
    if (line.score > bound) {
      return Broken("who knows ", line.model, " and no more scores ",
                    line.score, "; the task declares ", line.floor,
                    " (Task::Floors) and noise is ", bound - line.floor);
    }
  }
  return absl::OkStatus();
}

}  // namespace mneme
