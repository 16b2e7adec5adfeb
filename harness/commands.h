// SPDX-License-Identifier: Apache-2.0
//
// The subcommands of `mneme`. Each adds its flags to a CLI11 app and, when it
// is chosen, leaves an action to run; actions print results on stdout and
// return a Status, which main turns into a message and an exit code.

#ifndef MNEME_HARNESS_COMMANDS_H_
#define MNEME_HARNESS_COMMANDS_H_

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"

namespace mneme {

// Set by the callback of the subcommand that was given.
using Action = std::function<absl::Status()>;

void AddListCommand(CLI::App* app, Action* action);
void AddDescribeCommand(CLI::App* app, Action* action);
void AddEvaluateCommand(CLI::App* app, Action* action);
void AddApplyCommand(CLI::App* app, Action* action);

// Resolves a path given by a person: relative to where `bazel run` was called
// from, not to the runfiles tree it starts programs in.
std::string UserPath(const std::string& path);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMANDS_H_
