// SPDX-License-Identifier: Apache-2.0
//
// `capacity`: how many pairs the bare mechanisms hold.

#ifndef MNEME_HARNESS_COMMAND_CAPACITY_H_
#define MNEME_HARNESS_COMMAND_CAPACITY_H_

#include "harness/command_line.h"

namespace mneme {

void AddCapacityCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_CAPACITY_H_
