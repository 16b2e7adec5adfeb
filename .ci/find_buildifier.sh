#!/usr/bin/env bash
# Prints where the pinned buildifier is, having built it if it is not there
# yet: Debian has none. Needs Go and its module proxy, once.

set -euo pipefail

# Release 7.3.1, the last that the Go 1.19 of Debian 12 compiles. Formatting
# differs between releases, so any other one on PATH is passed over.
readonly version=v0.0.0-20240918101019-be1c24cc9a44
readonly directory="${XDG_CACHE_HOME:-$HOME/.cache}/mneme/buildifier-$version"

if [[ ! -x $directory/buildifier ]]; then
  if ! command -v go >/dev/null; then
    echo "buildifier is built by Go, which is missing: apt-get install golang-go" >&2
    exit 1
  fi
  GOBIN=$directory GOFLAGS=-mod=mod GOTOOLCHAIN=local \
    go install "github.com/bazelbuild/buildtools/buildifier@$version" >&2
fi
echo "$directory/buildifier"
