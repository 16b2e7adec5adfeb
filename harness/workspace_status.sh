#!/bin/sh
# Tells Bazel which commit it builds, for the records of results. The key does
# not begin with STABLE_: a new commit alone makes nothing out of date.
# Outside a git tree the commit is `unknown`; it never fails.

# Looking must not hold the lock that the user's own git commands need.
export GIT_OPTIONAL_LOCKS=0

commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || commit=unknown
if [ "$commit" != unknown ] && [ -n "$(git status --porcelain 2>/dev/null)" ]; then
  commit="$commit-dirty"
fi
echo "MNEME_COMMIT $commit"
