#!/usr/bin/env bash
# BUILD, WORKSPACE and .bzl files are as buildifier would write them, and it
# has no warnings about them.

set -uo pipefail

if [[ -z ${BUILDIFIER:-} || ! -x $BUILDIFIER ]]; then
  echo 'Say where buildifier is: ./bazelw test //:buildifier_test' \
    '--test_env=BUILDIFIER="$(.ci/find_buildifier.sh)"'
  exit 1
fi

# The test runs unsandboxed, where this script is a link into the workspace.
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1

if ! "$BUILDIFIER" -mode=check -lint=warn -r .; then
  echo
  echo "To mend formatting: ./bazelw run //:format"
  exit 1
fi
