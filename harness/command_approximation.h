// SPDX-License-Identifier: Apache-2.0
//
// `approximation`: how far approximations are from what they approximate.

#ifndef MNEME_HARNESS_COMMAND_APPROXIMATION_H_
#define MNEME_HARNESS_COMMAND_APPROXIMATION_H_

#include "harness/command_line.h"

namespace mneme {

void AddApproximationCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_APPROXIMATION_H_
