// SPDX-License-Identifier: Apache-2.0

#include "tasks/task_random.h"

#include "absl/strings/str_cat.h"

namespace mneme {

TaskRandom::TaskRandom(absl::string_view task) {
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    streams_[static_cast<size_t>(split)] =
        StreamId(absl::StrCat(task, "/", SplitName(split)));
  }
}

}  // namespace mneme
