#!/usr/bin/env bash
# Formats the workspace in place: C++ by clang-format, and BUILD and .bzl
# files by buildifier.

set -euo pipefail
cd "${BUILD_WORKSPACE_DIRECTORY:-$(dirname "${BASH_SOURCE[0]}")/..}"

# Neither dot-folders nor links, which lead to Bazel's outputs.
find . -name '.?*' -prune -o \
  -type f '(' -name '*.h' -o -name '*.cc' ')' -print0 |
  xargs -0 --no-run-if-empty clang-format --style=file -i

buildifier=$(.ci/find_buildifier.sh)
"$buildifier" -mode=fix -lint=fix -r .
