// SPDX-License-Identifier: Apache-2.0

#ifndef MNEME_HARNESS_UNKNOWN_FLAG_H_
#define MNEME_HARNESS_UNKNOWN_FLAG_H_

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/status.h"

namespace mneme {

// InvalidArgument for an argument that a program without subcommands does not
// know, "--variant=x" say, with the nearest flag that it has.
absl::Status UnknownFlag(const CLI::App& app, const std::string& argument);

}  // namespace mneme

#endif  // MNEME_HARNESS_UNKNOWN_FLAG_H_
