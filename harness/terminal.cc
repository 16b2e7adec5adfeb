// SPDX-License-Identifier: Apache-2.0

#include "harness/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace mneme {
namespace {

absl::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

TerminalStyle DetectTerminal(int file_descriptor) {
  TerminalStyle style;
  const bool terminal = isatty(file_descriptor) == 1;
  style.color = terminal && Environment("NO_COLOR").empty() &&
                Environment("TERM") != "dumb";
  int columns = 0;
  winsize size;
  if (absl::SimpleAtoi(Environment("COLUMNS"), &columns) && columns > 0) {
    style.columns = columns;
  } else if (!terminal) {
    style.columns = kUnlimitedColumns;
  } else if (ioctl(file_descriptor, TIOCGWINSZ, &size) == 0 &&
             size.ws_col > 0) {
    style.columns = size.ws_col;
  }
  return style;
}

}  // namespace mneme
