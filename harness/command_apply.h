// SPDX-License-Identifier: Apache-2.0
//
// `apply`: an operator on arrays from files.

#ifndef MNEME_HARNESS_COMMAND_APPLY_H_
#define MNEME_HARNESS_COMMAND_APPLY_H_

#include "harness/command_line.h"

namespace mneme {

void AddApplyCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_APPLY_H_
