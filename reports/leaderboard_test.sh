#!/usr/bin/env bash
# The leaderboard program from outside: exit codes, which stream says what, and
# what is on the disk afterwards. Bazel is played by a script.

set -uo pipefail

readonly leaderboard=$PWD/reports/leaderboard
readonly write_record=$PWD/reports/write_test_record
failures=0

fail() {
  echo "FAIL: ${FUNCNAME[1]}: $*" >&2
  sed 's/^/  stdout| /' "$dir/stdout" >&2
  sed 's/^/  stderr| /' "$dir/stderr" >&2
  failures=$((failures + 1))
}

# run CODE ARG...: runs it as if typed in $dir, and expects an exit code.
run() {
  local want=$1 got
  shift
  # Somewhere else, like `bazel run`.
  (cd / && exec env "${variables[@]}" "$leaderboard" "$@") \
    >"$dir/stdout" 2>"$dir/stderr" </dev/null
  got=$?
  [[ $got == "$want" ]] || fail "exit code $got, not $want: $*"
}

says() { grep -qF -- "$2" "$dir/$1" || fail "$1 lacks: $2"; }
silent() { [[ ! -s $dir/$1 ]] || fail "$1 is not empty"; }
has() { [[ -s $dir/$1 ]] || fail "there is no $1"; }
lacks() { [[ ! -e $dir/$1 ]] || fail "there is $1"; }
one_line() {
  [[ $(wc -l <"$dir/$1") == 1 ]] || fail "$1 is not one line"
}

# fake_bazel EXIT_CODE GROUP...: a Bazel that built the records of those cells
# and probes.
fake_bazel() {
  local code=$1 group file sets='' cells='' probes=''
  shift
  for group in "$@"; do
    file=$group.record
    [[ $group == probe.* ]] && file=${group#probe.}.probe
    sets+="{\"id\":{\"namedSet\":{\"id\":\"$group\"}},\"namedSetOfFiles\":{\"files\":[{\"uri\":\"file://$dir/$file\"}]}}"$'\n'
    group="{\"name\":\"$group\",\"fileSets\":[{\"id\":\"$group\"}]}"
    if [[ $file == *.probe ]]; then
      probes+="${probes:+,}$group"
    else
      cells+="${cells:+,}$group"
    fi
  done
  cat >"$dir/bazelw" <<EOF
#!/usr/bin/env bash
printf '%s\n' "\$@" > "$dir/arguments"
pwd > "$dir/pwd"
echo "bazel chatter"
for argument in "\$@"; do
  case \$argument in --build_event_json_file=*) events=\${argument#*=} ;; esac
done
cat > "\$events" <<'EVENTS'
$sets{"id":{"targetCompleted":{"label":"//reports:leaderboard_cells"}},"completed":{"outputGroup":[$cells]}}
{"id":{"targetCompleted":{"label":"//reports:leaderboard_probes"}},"completed":{"outputGroup":[$probes]}}
EVENTS
exit $code
EOF
  chmod +x "$dir/bazelw"
}

test_records_make_a_report() {
  mkdir "$dir/in"
  "$write_record" softmax 1 0 "$dir/in/a.record"
  "$write_record" linear 0.5 0 "$dir/in/b.record"
  run 0 --records=in --out=out
  says stdout softmax
  says stdout 'mqar (quick, seed 0): 2/2 variants complete'
  tail -n 1 "$dir/stderr" | grep -q "xdg-open $dir/out/index.html" ||
    fail 'the last line does not name the next command'
  for file in index.html leaderboard.json leaderboard.csv leaderboard.md \
    lengths.csv probes.csv speed.csv; do
    has "out/$file"
  done
  [[ $(find "$dir/out" -type f | wc -l) == 7 ]] || fail 'more than seven files'
}

test_probes_are_records_too() {
  mkdir "$dir/in"
  "$write_record" softmax 1 0 "$dir/in/a.record"
  "$write_record" softmax 16 0 "$dir/in/softmax.probe"
  "$write_record" linear 0.5 0 "$dir/linear.probe"
  run 0 --records=in,linear.probe --out=out
  says stdout 'probes: 2/2 variants measured'
  says out/index.html 'What each memory can hold'
  run 0 --records=in,linear.probe --out=without --no-probes
  grep -q 'probes:' "$dir/stdout" && fail 'probes are there all the same'
  run 0 --records=linear.probe --out=alone
  has alone/index.html
}

test_throughput_is_shown_beside_the_ranking() {
  mkdir "$dir/speed"
  "$write_record" softmax 1 0 "$dir/a.record"
  "$write_record" softmax 654321 0 "$dir/speed/softmax.throughput"
  run 0 --records=a.record --throughput=speed --out=out
  says stdout '654,321  50%'
  says out/index.html 'How fast each is'
  says out/speed.csv softmax
  run 0 --records=a.record,speed --out=as_records
  cmp -s "$dir/out/index.html" "$dir/as_records/index.html" ||
    fail '--records reads something else'
  run 0 --records=a.record --out=without
  says without/index.html 'Speed was not measured'
}

test_bad_throughput_is_found_before_anything_is_built() {
  fake_bazel 0
  run 1 --throughput=nowhere --out=out
  one_line stderr
  says stderr nowhere
  mkdir "$dir/empty"
  run 1 --throughput=empty --out=out
  one_line stderr
  says stderr 'there is no *.throughput file in'
  "$write_record" softmax 654321 0 "$dir/half.throughput"
  truncate --size=50 "$dir/half.throughput"
  run 1 --throughput=half.throughput --out=out
  one_line stderr
  says stderr half.throughput
  lacks arguments
  lacks out/index.html
}

test_throughput_stands_beside_what_is_trained() {
  fake_bazel 0 mqar.softmax.0
  "$write_record" softmax 1 0 "$dir/mqar.softmax.0.record"
  "$write_record" softmax 654321 0 "$dir/softmax.throughput"
  run 0 --variants=softmax --tasks=mqar --no-probes \
    --throughput=softmax.throughput
  says stdout '654,321  50%'
  grep -q throughput "$dir/arguments" && fail 'Bazel was told of throughput'
}

test_json_alone_is_on_stdout() {
  "$write_record" softmax 1 0 "$dir/a.record"
  run 0 --records=a.record --out=out --json
  cmp -s "$dir/stdout" "$dir/out/leaderboard.json" ||
    fail 'stdout is not leaderboard.json'
}

test_incomplete_results_exit_3_after_the_report() {
  "$write_record" softmax 1 0 "$dir/a.record"
  "$write_record" linear -1 0 "$dir/b.record"
  run 3 --records=a.record,b.record --out=out
  says stdout 'seed 0 diverged at step 120: the loss became NaN'
  has out/index.html
}

test_a_damaged_record_is_one_line() {
  "$write_record" softmax 1 0 "$dir/a.record"
  truncate --size=50 "$dir/a.record"
  run 1 --records=a.record --out=out
  silent stdout
  one_line stderr
  says stderr a.record
  lacks out/index.html
}

test_an_unwritable_directory_is_found_before_anything_is_built() {
  fake_bazel 0
  touch "$dir/out"
  run 1 --out=out/sub
  one_line stderr
  says stderr "--out:"
  lacks arguments
}

test_unknown_names_get_a_suggestion() {
  fake_bazel 0
  run 2 --variants=sofmax
  one_line stderr
  says stderr 'unknown variant "sofmax"; did you mean "softmax"?'
  run 2 --tasks=mkar
  says stderr 'unknown task "mkar"; did you mean "mqar"?'
  run 2 --varients=softmax
  one_line stderr
  says stderr 'unknown flag "--varients"; did you mean "--variants"?'
  lacks arguments
}

test_bad_values_name_their_flag() {
  run 2 --seeds=-1
  says stderr '--seeds: "-1" is not a whole number from 0 to'
  run 2 --seeds=0,x
  says stderr '--seeds: "x" is not a whole number'
  run 2 --seeds=
  run 2 --profile
  says stderr --profile
  run 2 --set=steps
  says stderr '--set: "steps" is not name=value'
  run 2 --records=a --variants=softmax
  says stderr --records
  silent stdout
}

test_help_is_no_error() {
  run 0 --help
  says stdout --variants
  silent stderr
}

test_without_bazel_run_it_says_how_to_start() {
  variables=(-u BUILD_WORKSPACE_DIRECTORY)
  run 2
  says stderr 'start me by ./bazelw run //reports:leaderboard'
}

test_bazel_is_asked_for_the_chosen_cells_alone() {
  fake_bazel 0 mqar.softmax.1 probe.softmax
  "$write_record" softmax 1 1 "$dir/mqar.softmax.1.record"
  "$write_record" softmax 16 0 "$dir/softmax.probe"
  run 0 --variants=softmax --tasks=mqar --seeds=1 --set=train.steps=5 --no-color
  says stdout 'seed 1'
  says stdout 'probes: 1/1'
  says arguments --output_groups=mqar.softmax.1
  says arguments //reports:leaderboard_probes
  says arguments --output_groups=probe.softmax
  says arguments --//reports:seeds=1
  says arguments --//reports:settings=train.steps=5
  says arguments --color=no
  grep -q linear "$dir/arguments" && fail 'linear was asked for'
  says pwd "$dir"
  # Bazel's own words are no data.
  says stderr 'bazel chatter'
  has bazel-leaderboard/index.html
}

test_what_bazel_could_not_build_is_a_hole() {
  fake_bazel 1 mqar.softmax.0
  "$write_record" softmax 1 0 "$dir/mqar.softmax.0.record"
  run 3 --variants=softmax,linear --out=out
  says stdout 'Bazel did not get as far'
  has out/index.html
}

test_a_probe_that_failed_costs_no_ranking() {
  fake_bazel 1 mqar.softmax.0
  "$write_record" softmax 1 0 "$dir/mqar.softmax.0.record"
  run 3 --variants=softmax --out=out
  says stdout '1/1 variant complete'
  says stdout 'softmax: Bazel did not get as far'
  has out/index.html
  run 0 --variants=softmax --tasks=mqar --out=out --no-probes
  grep -q probe "$dir/arguments" && fail 'probes were asked for'
}

test_bazel_itself_fails() {
  fake_bazel 37
  run 1 --out=out
  says stderr 'Bazel ended with exit code 37'
  lacks out/index.html
}

test_the_cells_could_not_be_analysed() {
  cat >"$dir/bazelw" <<'EOF'
#!/usr/bin/env bash
for argument in "$@"; do
  case $argument in --build_event_json_file=*) events=${argument#*=} ;; esac
done
echo '{"id":{"targetConfigured":{"label":"//reports:leaderboard_cells"}},"aborted":{}}' \
  > "$events"
exit 1
EOF
  chmod +x "$dir/bazelw"
  run 1 --out=out
  says stderr 'Bazel could not prepare //reports:leaderboard_cells'
  lacks out/index.html
}

test_a_workspace_without_bazelw_has_a_bazel() {
  fake_bazel 0 mqar.softmax.0
  mkdir "$dir/bin"
  mv "$dir/bazelw" "$dir/bin/bazel"
  "$write_record" softmax 1 0 "$dir/mqar.softmax.0.record"
  variables+=("PATH=$dir/bin:$PATH")
  run 0 --variants=softmax --tasks=mqar --no-probes
  says arguments --output_groups=mqar.softmax.0
}

test_bazel_is_missing() {
  variables+=("PATH=$dir")
  run 1 --out=out
  says stderr "cannot run bazel in $dir"
  lacks out/index.html
}

test_an_interrupt_leaves_nothing_half_written() {
  cat >"$dir/bazelw" <<EOF
#!/usr/bin/env bash
trap 'echo caught > "$dir/caught"; exit 8' INT
echo > "$dir/started"
while :; do sleep 0.05; done
EOF
  chmod +x "$dir/bazelw"
  (cd / && exec env "${variables[@]}" "$leaderboard" --out=out) \
    >"$dir/stdout" 2>"$dir/stderr" </dev/null &
  local program=$!
  until [[ -e $dir/started ]]; do sleep 0.05; done
  kill -INT "$program"
  wait "$program"
  local code=$?
  [[ $code == 130 ]] || fail "exit code $code, not 130"
  # It was passed on, and the program was waited for.
  has caught
  silent stdout
  [[ -z $(ls -A "$dir/out") ]] || fail 'something was written'
}

for name in $(compgen -A function test_); do
  dir=$(realpath "$(mktemp -d "$TEST_TMPDIR/XXXXXX")")
  # `stdout` and `stderr` are there even if a test fails before its first run.
  touch "$dir/stdout" "$dir/stderr"
  variables=(
    "BUILD_WORKSPACE_DIRECTORY=$dir"
    "BUILD_WORKING_DIRECTORY=$dir"
    "TMPDIR=$dir"
  )
  echo "$name"
  "$name"
done
[[ $failures == 0 ]]
