// SPDX-License-Identifier: Apache-2.0
//
// Running another program and waiting for it, interruptible as a whole.

#ifndef MNEME_REPORTS_PROCESS_H_
#define MNEME_REPORTS_PROCESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mneme {

// From here on SIGINT and SIGTERM no longer end this process, but are
// remembered. Call once, from main.
void CatchInterrupts();

// Whether one was caught.
bool Interrupted();

// Runs command[0], searched for in $PATH when it has no slash, in a working
// directory, with the terminal's input and with both outputs on our standard
// error: our standard output is for data. Returns its exit code, or 128 + the
// signal that ended it.
//
// Ctrl-C reaches the program from the terminal, as it is in our process group;
// a signal sent to this process alone is passed on. Either way the program is
// waited for. Errors: NotFound or PermissionDenied when it cannot be started.
absl::StatusOr<int> RunProgram(const std::vector<std::string>& command,
                               const std::string& directory);

}  // namespace mneme

#endif  // MNEME_REPORTS_PROCESS_H_
