// SPDX-License-Identifier: Apache-2.0
//
// `new-variant`: the beginning of a mechanism of one's own.

#ifndef MNEME_HARNESS_COMMAND_NEW_VARIANT_H_
#define MNEME_HARNESS_COMMAND_NEW_VARIANT_H_

#include "harness/command_line.h"

namespace mneme {

void AddNewVariantCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_NEW_VARIANT_H_
