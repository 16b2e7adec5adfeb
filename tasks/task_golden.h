// SPDX-License-Identifier: Apache-2.0
//
// Hashes of what a task generates, kept beside its source: data cannot change
// without notice, and results of one task version stay comparable. A golden
// file has one line for each profile,
//
//   <profile> <version> <hash, 16 hexadecimal digits>
//
// empty lines, and comments that start with '#'.

#ifndef MNEME_TASKS_TASK_GOLDEN_H_
#define MNEME_TASKS_TASK_GOLDEN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tasks/task.h"

namespace mneme {

// A hash of the task's sizes and of its first examples, of each split and two
// seeds. The same on every machine.
uint64_t ExamplesHash(const Task& task);

// FailedPrecondition unless golden (the text of a golden file) has exactly the
// plugin's profiles, version and hashes; the message says which of data,
// version and golden must change. InvalidArgument, with the line, for a text of
// another form.
absl::Status CheckGolden(const TaskPlugin& plugin, absl::string_view golden);

// The text of a golden file for the plugin, with `command` in a comment as the
// way to write it. FailedPrecondition if old_golden has another hash for the
// same profile and version: raise the version first.
absl::StatusOr<std::string> UpdatedGolden(const TaskPlugin& plugin,
                                          absl::string_view old_golden,
                                          absl::string_view command);

}  // namespace mneme

#endif  // MNEME_TASKS_TASK_GOLDEN_H_
