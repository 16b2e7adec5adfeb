// SPDX-License-Identifier: Apache-2.0
//
// `evaluate`: one cell, trained and tested, to one result record.

#ifndef MNEME_HARNESS_COMMAND_EVALUATE_H_
#define MNEME_HARNESS_COMMAND_EVALUATE_H_

#include "harness/command_line.h"

namespace mneme {

void AddEvaluateCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_EVALUATE_H_
