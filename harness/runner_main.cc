// SPDX-License-Identifier: Apache-2.0
//
// A variant's runner, which Bazel runs for each of the variant's cells.

#include "harness/command_evaluate.h"
#include "harness/command_line.h"

int main(int argc, char** argv) {
  return mneme::RunCommandLine(
      argc, argv, "Trains and tests one variant: see //harness:mneme",
      [](CLI::App* app, mneme::Action* action) {
        mneme::AddEvaluateCommand(app, action);
      });
}
