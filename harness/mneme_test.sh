#!/bin/bash
# The command line as a person meets it: results, messages, exit codes, files.
set -u
mneme="$TEST_SRCDIR/$TEST_WORKSPACE/harness/mneme"
tmp="$TEST_TMPDIR"
cd "$tmp" || exit 1
unset BUILD_WORKING_DIRECTORY
failures=0

# expect NAME EXIT_CODE REGEX COMMAND...: runs it; the regex must be in what it
# prints on either stream.
expect() {
  local name="$1" code="$2" regex="$3"
  shift 3
  local out actual
  out="$("$@" 2>&1 </dev/null)"
  actual=$?
  if [ "$actual" -ne "$code" ]; then
    echo "FAIL $name: exit $actual, want $code: $out"
    failures=$((failures + 1))
  elif ! grep -qE -- "$regex" <<<"$out"; then
    echo "FAIL $name: no /$regex/ in: $out"
    failures=$((failures + 1))
  fi
}

one_line() {
  [ "$("$@" 2>&1 >/dev/null </dev/null | wc -l)" -eq 1 ] && return
  echo "FAIL not one line on stderr: $*"
  failures=$((failures + 1))
}

expect "help" 0 "evaluate" "$mneme" --help
expect "help of a command" 0 "--variant" "$mneme" evaluate --help
expect "no command" 2 "command" "$mneme"
expect "mistyped command" 2 "evaluate" "$mneme" evalute
expect "mistyped flag" 2 "--variant" "$mneme" evaluate --varient=softmax
expect "list" 0 "retention" "$mneme" list
expect "list as JSON" 0 '"variants"' "$mneme" list --json
expect "describe a variant" 0 "rope_base" "$mneme" describe softmax
for variant in $("$mneme" list | sed -n '/^variants/,/^tasks/s/^  \([a-z_0-9]*\) .*/\1/p'); do
  expect "describe $variant" 0 "^operator inputs" "$mneme" describe "$variant"
done
expect "describe: axes of files" 0 "lambda +.*\[batch, heads, length, levels\]" "$mneme" describe log_linear
expect "describe: axes of parameters" 0 "e +.*\[heads, length, k\]" "$mneme" describe linformer_encoder
expect "describe: sizes of the state" 0 "after +100 tokens +14336 bytes" "$mneme" describe linformer
expect "describe a task" 0 "pairs" "$mneme" describe mqar
expect "describe a task: its example" 0 "k[0-9]+>v[0-9]+ \(_\)" "$mneme" describe mqar
expect "describe a task: floors" 0 "from a bag of the tokens 0.125" "$mneme" describe mqar
expect "describe another profile" 0 "example 3 of smoke" "$mneme" describe mqar --profile=smoke --example=3
expect "describe the profile of every task" 0 "example 0 of standard" "$mneme" describe mqar --profile=standard
expect "describe other settings" 0 "among the context.s answers 0.5" "$mneme" describe mqar --set task.pairs=2
expect "describe a published profile" 0 "published/zoology .* train.batch=512" "$mneme" describe mqar
expect "evaluate: longer sequences" 0 "length +32: accuracy .* streamed with" "$mneme" evaluate --variant=linear --task=mqar --profile=smoke --set test_doublings=1 --out=longer.record
expect "describe impossible settings" 2 "need length >= 4000" "$mneme" describe mqar --set pairs=1000
expect "describe no such profile" 2 'did you mean "quick"' "$mneme" describe mqar --profile=quik
expect "describe no such example" 2 "not a whole number" "$mneme" describe mqar --example=-1
expect "describe a task as JSON" 0 '"origins"' "$mneme" describe mqar --json
expect "describe nothing known" 2 'did you mean "linear"' "$mneme" describe lineer
expect "new variant" 2 "lower_snake_case" "$mneme" new-variant MyMemory --dir=new

cell=("$mneme" evaluate --variant=softmax --task=mqar)
smoke=("${cell[@]}" --profile=smoke)
expect "evaluate" 0 "accuracy" "${smoke[@]}" --out=a.record
expect "evaluate quietly" 0 "^$" "${smoke[@]}" --out=a.record --quiet
expect "evaluate on another SIMD target" 0 "accuracy" "${smoke[@]}" --simd=SSE4 --out=b.record
expect "no seed" 2 "seed.*-1.*whole number" "${smoke[@]}" --seed=-1 --out=c.record
expect "unknown variant" 2 'did you mean "softmax"' "$mneme" evaluate \
  --variant=sofmax --task=mqar --out=c.record
expect "unknown task" 2 'did you mean "mqar"' "$mneme" evaluate \
  --variant=softmax --task=mkar --out=c.record
expect "unknown profile" 2 "quick" "${cell[@]}" --profile=quik --out=c.record
expect "impossible task" 2 "pairs=999 need length" "${smoke[@]}" --set pairs=999 --out=c.record
expect "value out of range" 2 "steps.*-3.*1\.\." "${smoke[@]}" --set train.steps=-3 --out=c.record
expect "not an assignment" 2 "pairs" "${smoke[@]}" --set pairs --out=c.record
expect "bad number of threads" 2 "threads" "${smoke[@]}" --threads=0 --out=c.record
expect "bad SIMD target" 2 "AVX99" "${smoke[@]}" --simd=AVX99 --out=c.record
one_line "${smoke[@]}" --set pairs=999 --out=c.record
if [ -e c.record ]; then
  echo "FAIL a failed run left a record"
  failures=$((failures + 1))
fi
touch file
mkdir -p directory
# Found at once, not after the training that these would take.
long=("${cell[@]}" --set train.steps=100000000 --set train.stop_accuracy=2)
expect "output below a file" 1 "file" "${long[@]}" --out=file/x.record
expect "output is a directory" 1 "directory" "${long[@]}" --out=directory
expect "no directory for a mistyped variant" 2 "softmax" "$mneme" evaluate \
  --variant=sotfmax --task=mqar --out=never/x.record
if [ -e never ]; then
  echo "FAIL a mistyped name made a directory"
  failures=$((failures + 1))
fi

# Operators on arrays with nothing symmetric: batch 2, heads 2, length 3,
# key_dim 2, value_dim 1. npy FILE SHAPE VALUES...: float64, as NumPy writes it.
npy() {
  local file="$1" shape="$2" value
  shift 2
  {
    printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' \
      "{'descr': '<f8', 'fortran_order': False, 'shape': $shape, }"
    for value in "$@"; do
      printf '\0\0\0\0\0\0'
      case "$value" in  # sign and exponent of small whole numbers
        0) printf '\0\0' ;;
        1) printf '\xf0\x3f' ;;
        2) printf '\0\x40' ;;
        3) printf '\x08\x40' ;;
        4) printf '\x10\x40' ;;
      esac
    done
  } >"$file"
}
mkdir -p in
npy in/q.npy "(2, 2, 3, 2)" 1 0 0 1 1 1 2 0 0 2 1 0 0 0 1 0 0 1 3 1 1 3 0 2
npy in/k.npy "(2, 2, 3, 2)" 1 1 0 1 1 0 0 1 1 0 2 0 1 0 0 0 1 1 0 1 0 2 1 0
npy in/v.npy "(2, 2, 3, 1)" 1 2 3 4 3 2 0 1 2 2 0 4

# expect_values NAME FILE TOLERANCE VALUES...: the file's last numbers.
expect_values() {
  local name="$1" file="$2" tolerance="$3"
  shift 3
  if ! paste <(tail -c $((8 * $#)) "$file" | od -An -v -w8 -tf8) \
    <(printf '%s\n' "$@") |
    awk -v t="$tolerance" '{ d = $1 - $2; if (d < 0) d = -d
      if (NF != 2 || d > t) bad = 1 } END { exit bad }'; then
    echo "FAIL $name: $(tail -c $((8 * $#)) "$file" | od -An -v -w96 -tf8)"
    failures=$((failures + 1))
  fi
}
for form in parallel chunked recurrent; do
  for variant in softmax linear retention; do
    expect "apply $variant $form" 0 "^$" "$mneme" apply --variant=$variant \
      --form=$form --inputs=in --output=$variant.$form.npy
  done
  # From the definitions, in NumPy, over [batch, heads, length, dim].
  expect_values "softmax $form" softmax.$form.npy 1e-9 \
    1 1.5 1.74476523477 4 3.80442968251 2.56405389983 \
    0 0.330238450673 1.25523476523 2 0.21408360293 0.55494085355
  expect_values "linear $form" linear.$form.npy 1e-9 \
    0.999999833333 1.45454532231 1.899999905 3.9999992 3.58333303472 2.81249982422 \
    0 0.374999953125 1.15384606509 1.99999975 0.833333298611 1.54545447521
  expect_values "retention $form" retention.$form.npy 1e-9 \
    0.707106781187 2.09922325665 4.81854601477 0 5.56846590184 4.91660183794 \
    0 0 1.41421356237 1.41421356237 4.17634942638 2.74072931106
done
expect "apply: mistyped form" 2 'did you mean "chunked"' "$mneme" apply \
  --variant=softmax --form=chunkd --inputs=in --output=o.npy
cp in/v.npy in/beta.npy
expect "apply: three axes of four" 2 "beta.npy.*\[2, 2, 3, 1\].*strengths \[batch, heads, length\]" \
  "$mneme" apply --variant=deltanet --inputs=in --output=o.npy
mkdir -p empty
for name in q k v lambda; do npy empty/$name.npy "(2, 2, 0, 1)"; done
npy empty/g.npy "(2, 2, 0)"
expect "apply to no tokens" 2 "length is empty" "$mneme" apply --variant=log_linear --inputs=empty \
  --output=empty/o.npy
head -c 100 in/q.npy >in/short && mv in/short in/q.npy
expect "apply: truncated input" 2 "q\.npy" "$mneme" apply --variant=softmax \
  --inputs=in --output=o.npy
rm in/q.npy
expect "apply: missing input" 2 "q\.npy" "$mneme" apply --variant=softmax \
  --inputs=in --output=o.npy
[ -e o.npy ] && { echo "FAIL a failed apply left an output"; failures=$((failures + 1)); }

# Probes.
capacity=("$mneme" capacity --dims=8 --trials=2 --max_pairs=32)
expect "capacity" 0 "deltanet +8 +[0-9.]+" "${capacity[@]}" --variant=deltanet,softmax
expect "capacity: what holds no pairs" 0 "base_conv .*no queries" "${capacity[@]}" \
  --variant=base_conv
expect "capacity: orthogonal keys" 0 "gla +8 +>=8.0" "${capacity[@]}" --variant=gla \
  --keys=orthogonal
expect "capacity as JSON" 0 '"pairs_at_90": *\{' "${capacity[@]}" --variant=deltanet --json
expect "capacity to a file" 0 "^pairs at 90%" "${capacity[@]}" --variant=gla --out=gla.probe
expect "capacity to a directory" 0 "linear" "${capacity[@]}" --variant=gla --variant=linear \
  --out=probes
for file in gla.probe probes/gla.probe probes/linear.probe; do
  gzip -t "$file" || failures=$((failures + 1))
done
expect "capacity: one file for two" 2 "directory" "${capacity[@]}" --variant=gla,linear \
  --out=no.probe
expect "capacity: unknown variant" 2 'did you mean "gla"' "${capacity[@]}" --variant=gka
expect "capacity: unknown keys" 2 'did you mean "random"' "${capacity[@]}" --keys=randon
expect "capacity: no option of the variant" 2 "window" "${capacity[@]}" \
  --variant=sliding_window --set windo=3
expect "capacity: no trial" 2 "trials" "$mneme" capacity --trials=0
one_line "${capacity[@]}" --variant=gka
expect "approximation" 0 "random +error" "$mneme" approximation --variant=bigbird --trials=1
expect "approximation as JSON" 0 '"exact": *"softmax"' "$mneme" approximation \
  --variant=linformer --trials=1 --json
expect "approximation of nothing" 0 "softmax approximates nothing" "$mneme" approximation \
  --variant=softmax

# The machine: that it is shown, not how fast it is.
expect "doctor" 0 "^fma +[0-9.]+ GFLOP/s +[0-9.]+%" "$mneme" doctor
expect "doctor: threads" 0 "^ceiling +1 thread +CV +3 threads +CV" "$mneme" doctor --threads=3
expect "doctor: one thread" 0 "^ceiling +1 thread +CV$" "$mneme" doctor --threads=1
expect "doctor: advice" 0 "^[!?] [a-zA-Z]" "$mneme" doctor --threads=1
expect "doctor: next" 0 "^next: " "$mneme" doctor --threads=1
expect "doctor: another SIMD target" 0 "^SIMD +SSE4 in use" "$mneme" doctor --threads=1 --simd=SSE4
expect "doctor as JSON" 0 '"verdict": "(quiet|noisy|unknown)"' "$mneme" doctor --json --threads=1
expect "doctor: no threads" 2 "threads" "$mneme" doctor --threads=0
expect "doctor: bad SIMD target" 2 "AVX99" "$mneme" doctor --simd=AVX99
if COLUMNS=50 "$mneme" doctor | grep -E '.{51}'; then
  echo "FAIL doctor: wider than the terminal"
  failures=$((failures + 1))
fi

# Ctrl-C in the middle of a training leaves nothing behind.
timeout --signal=INT 0.5 "${long[@]}" --out=interrupted.record >/dev/null 2>&1
code=$?
if [ $code -ne 124 ]; then  # timeout's own: it was still running
  echo "FAIL the training that was to be interrupted ended with $code"
  failures=$((failures + 1))
fi
if [ -n "$(find . -name 'interrupted*' -o -name '.mneme-*')" ]; then
  echo "FAIL files are left: $(ls -A)"
  failures=$((failures + 1))
fi

[ "$failures" -eq 0 ] && echo "all passed"
exit $((failures > 0))
