// SPDX-License-Identifier: Apache-2.0
//
// `probe`: all probes of one variant, to one probe record.

#ifndef MNEME_HARNESS_COMMAND_PROBE_H_
#define MNEME_HARNESS_COMMAND_PROBE_H_

#include "harness/command_line.h"

namespace mneme {

void AddProbeCommand(CLI::App* app, Action* action);

}  // namespace mneme

#endif  // MNEME_HARNESS_COMMAND_PROBE_H_
