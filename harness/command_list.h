// SPDX-License-Identifier: Apache-2.0
//
// `list`: what there is.

#ifndef MNEME_HARNESS_COMMAND_LIST_H_
#define MNEME_HARNESS_COMMAND_LIST_H_

#include "harness/command_line.h"

namespace mneme {

void AddListCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_LIST_H_
