// SPDX-License-Identifier: Apache-2.0
//
// What the terminal behind a stream can show.

#ifndef MNEME_HARNESS_TERMINAL_H_
#define MNEME_HARNESS_TERMINAL_H_

namespace mneme {

struct TerminalStyle {
  int columns = 80;
  bool color = false;
};

// More than any line has: for a stream that is not a terminal, where nothing
// must be left out for want of room.
inline constexpr int kUnlimitedColumns = 1 << 20;

// Of the stream behind a file descriptor. Width: $COLUMNS, else what the
// terminal says, else 80; unlimited off a terminal. Colour: on a terminal,
// unless $NO_COLOR is set and not empty or $TERM is "dumb".
TerminalStyle DetectTerminal(int file_descriptor);

}  // namespace mneme

#endif  // MNEME_HARNESS_TERMINAL_H_
