// SPDX-License-Identifier: Apache-2.0
//
// `mneme new-variant` alone, for other workspaces: the whole command line holds
// every variant, and they would compile them all to begin their first.
//
//   bazel run @mneme//harness:new_variant -- NAME

#include <vector>

#include "harness/command_line.h"
#include "harness/command_new_variant.h"

int main(int argc, char** argv) {
  char command[] = "new-variant";
  std::vector<char*> arguments(argv, argv + argc);
  arguments.insert(arguments.begin() + (argc > 0 ? 1 : 0), command);
  arguments.push_back(nullptr);
  return mneme::RunCommandLine(
      static_cast<int>(arguments.size()) - 1, arguments.data(),
      "Begins a mechanism of your own.", mneme::AddNewVariantCommand);
}
