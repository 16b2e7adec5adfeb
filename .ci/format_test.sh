#!/usr/bin/env bash
# The looks of the whole tree: clang-format, and the house rules below.
# //:format mends what a program can mend.

set -uo pipefail

# The test runs unsandboxed, where this script is a link into the workspace.
# Files that no target names are checked like the others.
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1

# Neither dot-folders nor links, which lead to Bazel's outputs.
files() {
  find . -name '.?*' -prune -o -type f "$@" -printf '%P\n' | LC_ALL=C sort
}
mapfile -t cpp < <(files '(' -name '*.h' -o -name '*.cc' ')')
mapfile -t starlark < <(files -name '*.bzl')
failed=0

if ! command -v clang-format >/dev/null; then
  echo "clang-format is missing: run ./bazelw, or apt-get install clang-format"
  exit 1
fi
printf '%s\0' "${cpp[@]}" |
  xargs -0 --max-procs="$(nproc)" --max-args=16 \
    clang-format --style=file --dry-run --Werror 2>&1 || failed=1

# File, line and rule for each breach of:
# - at most 500 lines: what is longer does two things;
# - no tabs, no trailing blanks;
# - C++ begins with its licence;
# - a header is guarded by MNEME_<PATH>_H_ (Highway's per-target headers
#   compare that name with HWY_TARGET_TOGGLE instead of asking whether it is
#   defined).
awk '
  function breach(line, what) { print FILENAME ":" line ": " what; bad = 1 }
  function end_file() {
    if (!file) return
    if (lines > 500) print file ": " lines " lines, 500 are allowed"
    if (lines > 500) bad = 1
    if (guard && !guarded) print file ": the include guard is not " guard
    if (guard && !guarded) bad = 1
  }
  FNR == 1 {
    end_file()
    file = FILENAME
    guard = ""
    guarded = 0
    if (file ~ /\.h$/) {
      guard = "MNEME_" toupper(file) "_"
      gsub(/[^A-Z0-9_]/, "_", guard)
    }
    if (file !~ /\.bzl$/ && $0 != "// SPDX-License-Identifier: Apache-2.0")
      breach(1, "the first line is not // SPDX-License-Identifier: Apache-2.0")
  }
  { lines = FNR }
  /\t/ { breach(FNR, "tab") }
  /[ \t\r]$/ { breach(FNR, "trailing blank") }
  # The first condition in a header is its guard.
  guard && !guarded && /^#if/ {
    name = $0
    gsub(/[^A-Za-z0-9_]+/, " ", name)
    if (index(" " name " ", " " guard " ")) guarded = 1
    else breach(FNR, "the include guard is not " guard)
    guard = ""
  }
  END { end_file(); exit bad }
' "${cpp[@]}" "${starlark[@]}" || failed=1

if [[ $failed != 0 ]]; then
  echo
  echo "To mend formatting: ./bazelw run //:format"
fi
exit $failed
