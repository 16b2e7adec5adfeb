// SPDX-License-Identifier: Apache-2.0
//
// `list` and `describe`: what there is, and what can be set.

#ifndef MNEME_HARNESS_COMMAND_LIST_H_
#define MNEME_HARNESS_COMMAND_LIST_H_

#include "harness/command_line.h"

namespace mneme {

void AddListCommand(CLI::App* app, Action* action);
void AddDescribeCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_LIST_H_
