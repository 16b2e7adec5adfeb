#!/usr/bin/env bash
# count.sh, with stand-ins for valgrind and the program: it passes when
# everything was counted, and never because something was not.

set -uo pipefail

readonly count=$PWD/harness/instruction_counts/count.sh
readonly compare=$PWD/harness/instruction_counts/compare.awk
cd "$TEST_TMPDIR" || exit 1
failures=0

mkdir bin
for tool in awk bash cat cp diff env grep mktemp mv rm; do
  ln -s "$(command -v $tool)" bin/
done

stand_in() {
  printf '#!/bin/bash\n%s\n' "$2" >"$1"
  chmod +x "$1"
}

# valgrind FIRST SECOND: what it counts for two kernels; nothing: it fails.
valgrind() {
  stand_in bin/valgrind '
    for argument; do
      case $argument in --callgrind-out-file=*) out=${argument#*=} ;; esac
    done
    kernel=${!#}
    echo "events: Ir" >"$out"
    case $kernel in first) n='"'$1'"' ;; second) n='"'$2'"' ;; esac
    [[ -n $n ]] || { echo "no such instruction"; exit 132; }
    echo "totals: $n" >>"$out"'
}

# expect CODE TEXT [MODE]
expect() {
  local got
  BUILD_WORKSPACE_DIRECTORY=$PWD/workspace PATH=$PWD/bin \
    "$count" "${3:-compare}" ./program golden "$compare" >said 2>&1
  got=$?
  if [[ $got != "$1" ]] || ! grep -qF -- "$2" said; then
    echo "FAILED line ${BASH_LINENO[0]}: exit code $got, not $1 and '$2':"
    cat said
    failures=$((failures + 1))
  fi
}

stand_in program 'printf "%s\n" "# compiler: gcc 12.2.0" "first 100" "second 200"'
printf '%s\n' '# compiler: gcc 12.2.0' 'first 1000 10' 'second 5000 25' >golden

expect 1 'valgrind is missing: apt-get install valgrind'
expect 1 'valgrind is missing' regenerate
valgrind 1000 5000
expect 0 'second'
valgrind 1000 6000
expect 1 '+20.00%: MORE than 2%'
valgrind 1000 ''
expect 1 'no such instruction'
expect 1 'second did not run under valgrind'
valgrind 0 5000
expect 1 'callgrind did not find CountedCall of first'

# A golden file is replaced as a whole, or stays as it is.
valgrind 1000 6000
expect 1 'there is no' regenerate
mkdir workspace
echo old >workspace/golden
expect 0 'golden: rewritten' regenerate
grep -qxE 'second +6000 +30.0000' workspace/golden ||
  { cat workspace/golden; failures=$((failures + 1)); }
expect 0 'golden: no change' regenerate
cp workspace/golden golden
expect 0 '+0.00%'
valgrind 1000 ''
expect 1 'second did not run' regenerate
cmp golden workspace/golden || failures=$((failures + 1))

stand_in program 'exit 1'
valgrind 1000 5000
expect 1 'failed'

[[ $failures == 0 ]]
