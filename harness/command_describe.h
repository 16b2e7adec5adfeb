// SPDX-License-Identifier: Apache-2.0
//
// `describe`: what one variant or task is, what can be set, and what an example
// of a task looks like.

#ifndef MNEME_HARNESS_COMMAND_DESCRIBE_H_
#define MNEME_HARNESS_COMMAND_DESCRIBE_H_

#include "harness/command_line.h"

namespace mneme {

void AddDescribeCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_DESCRIBE_H_
