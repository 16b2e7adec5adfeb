#!/usr/bin/env bash
# Counts the instructions of the kernels' AVX2 code under callgrind.
#   count.sh compare PROGRAM GOLDEN COMPARE    test: are they those of GOLDEN?
#   count.sh regenerate PROGRAM GOLDEN         makes GOLDEN anew, in the workspace
# Instructions rather than time: they are the same on a loaded machine.

set -euo pipefail

readonly mode=$1 program=$2 golden=$3

fail() {
  printf 'instruction counts: %s\n' "$*" >&2
  exit 1
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Prints what one call of a kernel executes.
count() {
  local kernel=$1 instructions
  # Without the caller's environment: it lies on the stack, and could change how
  # the C library does its work.
  if ! env -i PATH="$PATH" valgrind --tool=callgrind \
    --toggle-collect=CountedCall --callgrind-out-file="$scratch/out" \
    "$program" "$kernel" >"$scratch/log" 2>&1; then
    cat "$scratch/log" >&2
    fail "$kernel did not run under valgrind"
  fi
  instructions=$(awk '$1 == "totals:" { print $2 }' "$scratch/out")
  [[ $instructions =~ ^[1-9][0-9]*$ ]] ||
    fail "callgrind did not find CountedCall of $kernel"
  echo "$instructions"
}

# Prints a golden file.
measure() {
  local kernel flops instructions
  "$program" >"$scratch/kernels" || fail "$program failed"
  echo "# Instructions of one call of each kernel on AVX2, counted by callgrind. Made by"
  echo "#   ./bazelw run //harness/instruction_counts:regenerate"
  grep '^#' "$scratch/kernels"
  echo "# kernel                  instructions  for a useful FLOP"
  while read -r kernel flops; do
    instructions=$(count "$kernel")
    awk -v kernel="$kernel" -v n="$instructions" -v flops="$flops" \
      'BEGIN { printf "%-24s  %12d  %.4f\n", kernel, n, n / flops }'
  done < <(grep -v '^#' "$scratch/kernels")
}

# A test that passed without having counted anything would be believed.
command -v valgrind >/dev/null ||
  fail "valgrind is missing: apt-get install valgrind"

# Not in a pipe or substitution: there `fail` would leave only a subshell.
measure >"$scratch/measured"

case $mode in
  compare)
    awk -f "$4" "$golden" "$scratch/measured"
    ;;
  regenerate)
    target=${BUILD_WORKSPACE_DIRECTORY:?is set by ./bazelw run}/$golden
    [[ -e $target ]] || fail "there is no $target to replace"
    diff "$target" "$scratch/measured" && echo "$golden: no change" && exit
    # Whole or not at all.
    cp "$scratch/measured" "$target.new"
    mv "$target.new" "$target"
    echo "$golden: rewritten"
    ;;
  *)
    fail "no mode $mode"
    ;;
esac
