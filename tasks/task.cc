// SPDX-License-Identifier: Apache-2.0

#include "tasks/task.h"

#include <cassert>
#include <cstddef>
#include <utility>

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

Registry<TaskPlugin>& Tasks() {
  static Registry<TaskPlugin>& tasks = *new Registry<TaskPlugin>("task");
  return tasks;
}

bool RegisterTask(TaskPlugin plugin) {
  const std::string name = plugin.descriptor.name;
  return Tasks().Add(name, std::move(plugin));
}

}  // namespace mneme
