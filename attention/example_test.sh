#!/usr/bin/env bash
# attention/example as its owner meets it: Bazel, started in that workspace,
# builds Mneme as a dependency, proves the variant and ranks it. The first time
# everything is compiled; after that only what has changed.

set -uo pipefail

# The test runs unsandboxed, where this script is a link into the workspace.
example=$(dirname "$(readlink -f "$0")")/example
cd "$example" || exit 1

# A home of its own, in the output base of the Bazel that runs this, keeps what
# was built, apart from what else people build. (TEST_TMPDIR would have Bazel put
# everything there.)
report=$TEST_TMPDIR/report
export HOME=${TEST_SRCDIR%%/execroot/*}/attention_example
unset TEST_TMPDIR
mkdir -p "$HOME" || exit 1
printf '%s\n' 'startup --max_idle_secs=60' >"$HOME/.bazelrc"

bazelw() { ../../bazelw "$@"; }

# No server outlives the test.
trap 'bazelw shutdown' EXIT
trap 'exit 1' INT TERM

fail() {
  echo "FAILED: $*"
  exit 1
}

readonly quiet=(--color=no --curses=no --noshow_progress)
bazelw test "${quiet[@]}" //hgrn2:hgrn2_contract_test ||
  fail "the contract test"
bazelw run "${quiet[@]}" //:leaderboard -- --no-color \
  --variants=gla,hgrn2 --profile=smoke --out="$report" | tee "$HOME/table" ||
  fail "the leaderboard"

grep -q '2/2 variants complete' "$HOME/table" || fail "a row is missing"
for variant in gla hgrn2; do
  grep -qE "^ *[1-9-]+ +$variant " "$HOME/table" || fail "$variant has no rank"
done
grep -q 'bazel run //:leaderboard -- --variants=gla,hgrn2' \
  "$report/index.html" || fail "the page does not say how it was made"
