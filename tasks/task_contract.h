// SPDX-License-Identifier: Apache-2.0
//
// What every task promises, as checks that any task can be put to. The macro
// task() in defs.bzl makes a test of them for each profile of a new task; call
// them directly for options that no profile has.
//
// Each check returns OK or one line that says which example broke which
// promise. They cost O(10^6) tokens, whatever the task's length.

#ifndef MNEME_TASKS_TASK_CONTRACT_H_
#define MNEME_TASKS_TASK_CONTRACT_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tasks/task.h"

namespace mneme {

// The task with a profile's options.
absl::StatusOr<std::unique_ptr<Task>> MakeTask(const TaskPlugin& plugin,
                                               const TaskProfile& profile);

// The descriptor is complete: a name fit for a file name, texts, a version,
// options that explain themselves, profiles that work, "quick" first.
absl::Status CheckDescriptor(const TaskPlugin& plugin);

// Each option at each end of its range, the others at their defaults, gives a
// task with well-formed examples or an InvalidArgument of one line.
absl::Status CheckExtremeOptions(const TaskPlugin& plugin);

// Sizes, ranges and scores of the task and of examples of each split: tokens
// and targets are in the vocabulary, something is scored, and what is scored is
// a query.
absl::Status CheckWellFormed(const Task& task);

// Examples are a function of (split, seed, index): the same in reverse order,
// over old contents, from other threads, and from a twin made of the same
// options.
absl::Status CheckPure(const Task& task, const Task& twin);

// Splits, seeds and indices give other examples.
absl::Status CheckStreamsDiffer(const Task& task);

// An example read in ranges is the example.
absl::Status CheckRanges(const Task& task);

// Right predictions score 1; one wrong one among them gives less, and wrong
// ones alone no more than that. Details are in 0..1 and have names.
absl::Status CheckScores(const Task& task);

// Models without a memory (leak_probes.h) score no more than Task::Floors
// declares, beyond noise.
absl::Status CheckLeaks(const Task& task);

}  // namespace mneme

#endif  // MNEME_TASKS_TASK_CONTRACT_H_
