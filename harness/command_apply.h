// SPDX-License-Identifier: Apache-2.0
//
// `apply`: an operator on arrays from files.

#ifndef MNEME_HARNESS_COMMAND_APPLY_H_
#define MNEME_HARNESS_COMMAND_APPLY_H_

#include <string>

#include "attention/operator.h"
#include "harness/command_line.h"

namespace mneme {

// What the file of an input holds: its doc, with the axes in the order of
// files, "queries [batch, heads, length, key_dim]".
std::string FileDoc(const InputSpec& spec);

void AddApplyCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_APPLY_H_
