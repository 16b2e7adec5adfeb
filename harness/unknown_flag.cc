// SPDX-License-Identifier: Apache-2.0

#include "harness/unknown_flag.h"

#include <vector>

#include "attention/plugin/suggest.h"

namespace mneme {

absl::Status UnknownFlag(const CLI::App& app, const std::string& argument) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    known.push_back(option->get_name());
  }
  return absl::InvalidArgumentError(
      UnknownName("flag", argument.substr(0, argument.find('=')), known)
          .message());
}

}  // namespace mneme
