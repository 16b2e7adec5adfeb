#!/usr/bin/env bash
# A variant as `mneme new-variant` writes it computes what it says, and fails
# its contract test in what is not written yet, and in nothing else.

set -uo pipefail

readonly contract=harness/skeleton/fresh_memory_contract
failures=0

fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

if "$contract" >"$TEST_TMPDIR/log"; then
  fail "the contract test passed"
fi
grep -q 'fresh_memory: Backward is not written yet' "$TEST_TMPDIR/log" ||
  fail "the contract test does not say what is missing"

# Two sorts of gradient tests, of the operator and of the mixer.
failed=$(sed -n 's/^\[  FAILED  \] \([A-Za-z]*\.[A-Za-z0-9]*\)$/\1/p' \
  "$TEST_TMPDIR/log" | sort | tr '\n' ' ')
readonly expected='MixerContract.Float32GradientsAreNearFloat64 MixerContract.GradientsEqualCentralDifferences OperatorContract.BackwardAddsToWhatIsThereAndSkipsWhatIsUnwanted OperatorContract.BackwardEqualsCentralDifferences OperatorContract.Float32BackwardIsNearFloat64OnEverySimdTarget '
[[ $failed == "$expected" ]] || fail "failed are: $failed"

# Each says so once or a few times, and not in pages of wrong numbers.
lines=$(wc -l <"$TEST_TMPDIR/log")
[[ $lines -lt 150 ]] || fail "the contract test writes $lines lines"

[[ $failures == 0 ]] || cat "$TEST_TMPDIR/log"
exit $((failures > 0))
