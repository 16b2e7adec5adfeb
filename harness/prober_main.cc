// SPDX-License-Identifier: Apache-2.0
//
// A variant's prober, which Bazel runs for the variant's probe record.

#include "harness/command_line.h"
#include "harness/command_probe.h"

int main(int argc, char** argv) {
  return mneme::RunCommandLine(argc, argv,
                               "Probes one variant: see //harness:mneme",
                               [](CLI::App* app, mneme::Action* action) {
                                 mneme::AddProbeCommand(app, action);
                               });
}
