// SPDX-License-Identifier: Apache-2.0

#include "tasks/task.h"

#include <cassert>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mneme {

absl::string_view SplitName(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kValidation:
      return "validation";
    case Split::kTest:
      break;
  }
  return "test";
}

double Task::Score(const Example& example,
                   absl::Span<const int32_t> predictions) const {
  size_t scored = 0;
  size_t correct = 0;
  for (const int32_t target : example.targets) {
    if (target == kUnscored) continue;
    // A prediction that is missing is wrong.
    if (scored < predictions.size() && predictions[scored] == target) ++correct;
    ++scored;
  }
  assert(predictions.size() == scored && "one prediction a scored position");
  return scored == 0 ? 0.0 : static_cast<double>(correct) / scored;
}

void Task::GenerateRange(Split split, uint64_t seed, uint64_t index,
                         int64_t first, int64_t count, Example* example) const {
  Generate(split, seed, index, example);
  const auto cut = [&](auto& values) {
    if (values.empty()) return;
    values.erase(values.begin() + first + count, values.end());
    values.erase(values.begin(), values.begin() + first);
  };
  cut(example->tokens);
  cut(example->targets);
  cut(example->roles);
  cut(example->origins);
}

std::vector<double> Task::Details(const Example&,
                                  absl::Span<const int32_t>) const {
  return {};
}

LeakFloors Task::Floors() const {
  return {ChanceScore(), ContextGuessScore(), ContextGuessScore()};
}

std::string Task::TokenText(int32_t token) const { return absl::StrCat(token); }

Registry<TaskPlugin>& Tasks() {
  static Registry<TaskPlugin>& tasks = *new Registry<TaskPlugin>("task");
  return tasks;
}

bool RegisterTask(TaskPlugin plugin) {
  const std::string name = plugin.descriptor.name;
  return Tasks().Add(name, std::move(plugin));
}

}  // namespace mneme
