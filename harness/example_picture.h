// SPDX-License-Identifier: Apache-2.0
//
// An example of a task as people can read it.

#ifndef MNEME_HARNESS_EXAMPLE_PICTURE_H_
#define MNEME_HARNESS_EXAMPLE_PICTURE_H_

#include <string>

#include "harness/terminal.h"
#include "nlohmann/json.hpp"
#include "tasks/task.h"

namespace mneme {

// The tokens in order, in lines that fit, and a legend. Filler is grey, a query
// bold, and a scored position is followed by the answer wanted there: "k3>v7";
// where the answer is the next token anyway, as in copying, it is underlined
// instead. Without colours filler stands in brackets, "(0)", a query as "k3?",
// an underlined one as "_a". Runs of more than a few dozen unscored tokens of
// one kind are cut short: "... 4,000 more ...".
std::string PictureOfExample(const Task& task, const Example& example,
                             const TerminalStyle& style);

// Tokens as numbers and as text, targets (null where unscored), roles, origins.
nlohmann::ordered_json ExampleJson(const Task& task, const Example& example);

}  // namespace mneme

#endif  // MNEME_HARNESS_EXAMPLE_PICTURE_H_
