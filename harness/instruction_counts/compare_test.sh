#!/usr/bin/env bash
# What compare.awk says to golden files that agree, and to those that do not.

set -uo pipefail

readonly compare=$PWD/harness/instruction_counts/compare.awk
cd "$TEST_TMPDIR" || exit 1
failures=0

# file NAME COMPILER [KERNEL INSTRUCTIONS]...
file() {
  local name=$1 compiler=$2
  shift 2
  {
    printf '# Made by somebody.\n# compiler: %s\n# highway: 1.0.3\n' "$compiler"
    [[ $# == 0 ]] || printf '%s  %s  0.5\n' "$@"
  } >"$name"
}

# expect CODE [TEXT]...: its exit code, and what it says.
expect() {
  local want=$1 got text
  shift
  awk -f "$compare" golden measured >said 2>&1
  got=$?
  if [[ $got != "$want" ]]; then
    echo "FAILED line ${BASH_LINENO[0]}: exit code $got, not $want"
    failures=$((failures + 1))
  fi
  for text in "$@"; do
    grep -qF -- "$text" said && continue
    echo "FAILED line ${BASH_LINENO[0]}: does not say '$text' but:"
    cat said
    failures=$((failures + 1))
  done
}

# What it has just said lacks these.
expect_silence() {
  local text
  for text in "$@"; do
    grep -qF -- "$text" said || continue
    echo "FAILED line ${BASH_LINENO[0]}: says '$text'"
    failures=$((failures + 1))
  done
}

file golden 'gcc 12.2.0' a 10000 b 20000

file measured 'gcc 12.2.0' a 10000 b 20000
expect 0 'a ' '+0.00%'
file measured 'gcc 12.3.1' a 10199 b 19610
expect 0 '+1.99%' '-1.95%'

file measured 'gcc 12.2.0' a 10201 b 20000
expect 1 'FAIL: a ' '10000 ->' '10201 instructions, +2.01%: MORE than 2%' \
  'became slower' '//harness/instruction_counts:regenerate' \
  'golden: gcc 12.2.0, Highway 1.0.3'
expect_silence 'FAIL: b' 'improved'
file measured 'gcc 12.2.0' a 10000 b 19500
expect 1 'FAIL: b ' '-2.50%: fewer, by more than 2%' 'improved' \
  '//harness/instruction_counts:regenerate'
expect_silence 'FAIL: a' 'slower'

file measured 'gcc 12.2.0' a 10000
expect 1 'FAIL: b is in the golden file and was not counted'
file measured 'gcc 12.2.0' a 10000 b 20000 c 1
expect 1 'FAIL: c is not in the golden file'
file measured 'gcc 12.2.0' a 10000 b ''
expect 1 'not a kernel and its count'
file measured 'gcc 12.2.0' a 10000 b 0
expect 1 'not a kernel and its count'
file measured 'gcc 12.2.0'
expect 1 'nothing was counted'
: >measured
expect 1 'nothing was counted'

# Other compilers are not compared, however equal the counts.
file measured 'gcc 13.2.0' a 10000 b 20000
expect 1 'cannot compare' '"gcc 12.2.0"' '"gcc 13.2.0"'
file measured 'clang 12.2.0' a 10000 b 20000
expect 1 'cannot compare'
file measured 'gcc 12.2.0' a 10000 b 20000
: >golden
expect 1 'cannot compare'

[[ $failures == 0 ]]
