// SPDX-License-Identifier: Apache-2.0

#include "tasks/task_golden.h"

#include <map>
#include <memory>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "attention/tensor/random.h"
#include "tasks/task_contract.h"

namespace mneme {
namespace {

struct Golden {
  int version = 0;
  std::string hash;
};

std::string HashText(uint64_t hash) {
  return absl::StrCat(absl::Hex(hash, absl::kZeroPad16));
}

absl::StatusOr<std::map<std::string, Golden>> ParseGolden(
    absl::string_view text) {
  std::map<std::string, Golden> by_profile;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    Golden golden;
    if (fields.size() != 3 || !absl::SimpleAtoi(fields[1], &golden.version) ||
        fields[2].size() != 16) {
      return absl::InvalidArgumentError(absl::StrCat(
          "golden file, line ", number, ": not \"profile version hash\""));
    }
    golden.hash = fields[2];
    if (!by_profile.emplace(fields[0], golden).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("golden file, line ", number, ": profile ", fields[0],
                       " stands there twice"));
    }
  }
  return by_profile;
}

// Hashes by profile, in the order of the profiles.
absl::StatusOr<std::vector<std::pair<std::string, Golden>>> ActualGolden(
    const TaskPlugin& plugin) {
  std::vector<std::pair<std::string, Golden>> actual;
  for (const TaskProfile& profile : plugin.descriptor.profiles) {
    absl::StatusOr<std::unique_ptr<Task>> task = MakeTask(plugin, profile);
    if (!task.ok()) return task.status();
    actual.emplace_back(profile.name, Golden{plugin.descriptor.version,
                                             HashText(ExamplesHash(**task))});
  }
  return actual;
}

absl::Status UnannouncedChange(absl::string_view profile, int version) {
  return absl::FailedPreconditionError(absl::StrCat(
      "profile ", profile, " generates other data than version ", version,
      " did; undo that, or raise the descriptor's version and update"));
}

}  // namespace

uint64_t ExamplesHash(const Task& task) {
  constexpr uint64_t kExamples = 8;
  std::string text = absl::StrCat(task.length(), " ", task.vocabulary(), "\n");
  Example example;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    for (const uint64_t seed : {0, 1}) {
      for (uint64_t index = 0; index < kExamples; ++index) {
        task.Generate(split, seed, index, &example);
        for (size_t t = 0; t < example.tokens.size(); ++t) {
          absl::StrAppend(&text, example.tokens[t], " ", example.targets[t],
                          " ", static_cast<int>(example.roles[t]));
          if (!example.origins.empty()) {
            absl::StrAppend(&text, " ", example.origins[t]);
          }
          absl::StrAppend(&text, "\n");
        }
        for (const int32_t note : example.notes) {
          absl::StrAppend(&text, "note ", note, "\n");
        }
      }
    }
  }
  return StreamId(text);
}

absl::Status CheckGolden(const TaskPlugin& plugin, absl::string_view golden) {
  absl::StatusOr<std::map<std::string, Golden>> expected = ParseGolden(golden);
  if (!expected.ok()) return expected.status();
  const auto actual = ActualGolden(plugin);
  if (!actual.ok()) return actual.status();
  for (const auto& [profile, hash] : *actual) {
    const auto found = expected->find(profile);
    if (found == expected->end()) {
      return absl::FailedPreconditionError(
          absl::StrCat("profile ", profile, " is not in the golden file"));
    }
    if (found->second.version != hash.version) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the golden file has version ", found->second.version, " of profile ",
          profile, ", the descriptor says ", hash.version));
    }
    if (found->second.hash != hash.hash) {
      return UnannouncedChange(profile, hash.version);
    }
    expected->erase(found);
  }
  if (!expected->empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the golden file has a profile ", expected->begin()->first,
                     " that the task has not"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> UpdatedGolden(const TaskPlugin& plugin,
                                          absl::string_view old_golden,
                                          absl::string_view command) {
  const auto old = ParseGolden(old_golden);
  if (!old.ok()) return old.status();
  const auto actual = ActualGolden(plugin);
  if (!actual.ok()) return actual.status();
  std::string text = absl::StrCat(
      "# Profile, version and hash of what the task generates. Written by\n# ",
      command, "\n");
  for (const auto& [profile, hash] : *actual) {
    const auto found = old->find(profile);
    if (found != old->end() && found->second.version == hash.version &&
        found->second.hash != hash.hash) {
      return UnannouncedChange(profile, hash.version);
    }
    absl::StrAppend(&text, profile, " ", hash.version, " ", hash.hash, "\n");
  }
  return text;
}

}  // namespace mneme
