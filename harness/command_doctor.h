// SPDX-License-Identifier: Apache-2.0
//
// `doctor`: the machine, what it can do at most, and what disturbs timings.

#ifndef MNEME_HARNESS_COMMAND_DOCTOR_H_
#define MNEME_HARNESS_COMMAND_DOCTOR_H_

#include "harness/command_line.h"

namespace mneme {

void AddDoctorCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_DOCTOR_H_
