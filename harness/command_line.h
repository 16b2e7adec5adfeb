// SPDX-License-Identifier: Apache-2.0
//
// What Mneme's programs with subcommands share: each subcommand adds its flags
// to a CLI11 app and, when it is chosen, leaves an action to run. Actions print
// results on stdout and return a Status, which becomes a message of one line
// and an exit code: 0 done, 1 failed, 2 wrong usage.

#ifndef MNEME_HARNESS_COMMAND_LINE_H_
#define MNEME_HARNESS_COMMAND_LINE_H_

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "attention/plugin/user_path.h"  // which most commands need

namespace mneme {

// Set by the callback of the subcommand that was given.
using Action = std::function<absl::Status()>;

// Lets `add_commands` fill the app, parses, runs the action. Returns the exit
// code. Mistyped commands and flags get the nearest known name; exceptions,
// running out of memory among them, become messages too.
int RunCommandLine(int argc, char** argv, const std::string& description,
                   const std::function<void(CLI::App*, Action*)>& add_commands);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_LINE_H_
