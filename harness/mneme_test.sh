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
expect "describe a task" 0 "pairs" "$mneme" describe mqar
expect "describe nothing known" 2 'did you mean "linear"' "$mneme" describe lineer

cell=("$mneme" evaluate --variant=softmax --task=mqar)
smoke=("${cell[@]}" --profile=smoke)
expect "evaluate" 0 "accuracy" "${smoke[@]}" --out=a.record
expect "evaluate quietly" 0 "^$" "${smoke[@]}" --out=a.record --quiet
expect "evaluate by AVX2" 0 "accuracy|not supported" "${smoke[@]}" --simd=best --out=b.record
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
expect "output below a file" 1 "file" "${smoke[@]}" --out=file/x.record
if ls ./*.tmp* 2>/dev/null | grep -q .; then
  echo "FAIL temporary files are left: $(ls)"
  failures=$((failures + 1))
fi

# A 1 x 1 x 2 x 2 float32 .npy: magic, version 1.0, header padded to 64 bytes.
npy() {
  local header="{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 2), }"
  printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "$header"
  printf '\x00\x00\x80\x3f\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x3f'
}
mkdir -p in
for name in q k v; do npy >in/$name.npy; done
for form in parallel chunked recurrent; do
  for variant in softmax linear retention; do
    expect "apply $variant $form" 0 "^$" "$mneme" apply --variant=$variant \
      --form=$form --inputs=in --output=$variant.$form.npy
  done
done
# The first token attends to itself alone, so softmax returns its value (1, 0).
if [ "$(tail -c 16 softmax.parallel.npy | head -c 8 | od -An -tx1 | tr -d ' \n')" \
  != "0000803f00000000" ]; then
  echo "FAIL softmax of one token is not its value"
  failures=$((failures + 1))
fi
expect "apply: mistyped form" 2 'did you mean "chunked"' "$mneme" apply \
  --variant=softmax --form=chunkd --inputs=in --output=o.npy
head -c 100 in/q.npy >in/short && mv in/short in/q.npy
expect "apply: truncated input" 2 "q\.npy" "$mneme" apply --variant=softmax \
  --inputs=in --output=o.npy
rm in/q.npy
expect "apply: missing input" 2 "q\.npy" "$mneme" apply --variant=softmax \
  --inputs=in --output=o.npy
[ -e o.npy ] && { echo "FAIL a failed apply left an output"; failures=$((failures + 1)); }

# Ctrl-C in the middle of a training leaves nothing behind.
timeout --signal=INT 0.5 "$mneme" evaluate --variant=softmax --task=mqar \
  --set train.steps=1000000 --set train.stop_accuracy=2 \
  --out=interrupted.record >/dev/null 2>&1
if ls interrupted* 2>/dev/null | grep -q .; then
  echo "FAIL an interrupted run left files: $(ls)"
  failures=$((failures + 1))
fi

[ "$failures" -eq 0 ] && echo "all passed"
exit $((failures > 0))
