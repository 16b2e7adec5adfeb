// SPDX-License-Identifier: Apache-2.0
//
// What the tests of single tasks share: making the one task that is linked in,
// and asking whether what it draws is distributed as claimed.

#ifndef MNEME_TASKS_TASK_TESTING_H_
#define MNEME_TASKS_TASK_TESTING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tasks/task.h"

namespace mneme {

// The task of that name with these options, or why not.
absl::StatusOr<std::unique_ptr<Task>> TryMakeTask(const std::string& name,
                                                  const OptionValues& values);

// The same where it must work.
std::unique_ptr<Task> MakeTaskOrFail(const std::string& name,
                                     const OptionValues& values);

// The message with which the factory refuses the options; fails the test if it
// takes them.
std::string Refusal(const std::string& name, const OptionValues& values);

// One line a profile: "quick: length=64 pairs=8".
std::string ProfilesText(const std::string& name);

// Training example number index of seed 0.
Example TrainExample(const Task& task, uint64_t index);

// Expects GenerateRange to give that part of training example 3, of 1, 2, 7 and
// 64 positions wherever they begin: more than the contract's thirds.
void ExpectRangesArePartsOfTheExample(const Task& task);

// Expects counts to fit the probabilities, which sum to 1, by a chi-square
// test. Seeds are fixed; a sound task fails one in a million.
void ExpectFits(absl::Span<const double> probabilities,
                absl::Span<const int64_t> counts);
void ExpectUniform(absl::Span<const int64_t> counts);

// The mean score of what `guess` predicts over the first `examples` training
// examples, and expects it to be `expected` within five standard errors.
using Guess = std::function<std::vector<int32_t>(const Example&)>;
void ExpectGuessScores(const Task& task, uint64_t examples, double expected,
                       const Guess& guess);

}  // namespace mneme

#endif  // MNEME_TASKS_TASK_TESTING_H_
