#!/bin/bash
# //harness:throughput from end to end, on problems so small that every phase
# takes moments. Nothing here looks at how fast anything is.
set -u
program=$1
tmp=${TEST_TMPDIR:-$(mktemp -d)}
failures=0
fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}
quick=(--benchmark_repetitions=3 --benchmark_min_time=0.001 --variants=linear)

"$program" "${quick[@]}" --shapes=1x96x2x16 --phases=prefill,decode,backward \
  --json="$tmp/a.json" --out="$tmp/out" > "$tmp/table" 2> "$tmp/errors" ||
  fail "a plain run: $(cat "$tmp/errors")"
for phase in prefill decode backward; do
  grep -q "^linear  *$phase .* 1x96x2x16  *mneme " "$tmp/table" ||
    fail "no row for $phase: $(cat "$tmp/table")"
done
[ -s "$tmp/out/linear.throughput" ] || fail "no record"
[ "$(grep -c '"variant": "linear"' "$tmp/a.json")" = 3 ] &&
  [ "$(grep -c '"shape": "1x96x2x16"' "$tmp/a.json")" = 3 ] &&
  [ "$(grep -cE '"(milliseconds|tokens_per_second|gflops|fraction_of_limit)": [0-9.e-]*[1-9]' "$tmp/a.json")" = 12 ] ||
  fail "the JSON: $(cat "$tmp/a.json")"

# One document, and nothing else.
expect_document() {
  [ "$(head -c 1 "$1")" = "{" ] && [ "$(tail -n 1 "$1")" = "}" ] &&
    [ "$(grep -c '^{' "$1")" = 1 ] && [ "$(grep -c '^}' "$1")" = 1 ] ||
    fail "$1 is not one document: $(cat "$1")"
}
"$program" "${quick[@]}" --shapes=1x32x1x8 --phases=prefill --json=- \
  > "$tmp/stdout" || fail "--json=-"
expect_document "$tmp/stdout"

# Google Benchmark's own outputs, of two groups.
"$program" "${quick[@]}" --shapes=1x32x1x8,1x64x1x8 --phases=prefill \
  --benchmark_out="$tmp/gb.json" --benchmark_format=json > "$tmp/gb2.json"
for file in "$tmp/gb.json" "$tmp/gb2.json"; do
  expect_document "$file"
  for name in linear/prefill/1x32x1x8 linear/prefill/1x64x1x8 ceiling/fma; do
    grep -q "\"name\": \"$name" "$file" || fail "no $name in $file"
  done
done

# Training, and several threads.
"$program" "${quick[@]}" --shapes=4x32x2x8 --phases=train --threads=1,2 \
  > "$tmp/table" || fail "training"
[ "$(grep -c ' train .* mneme ' "$tmp/table")" = 2 ] ||
  fail "training rows: $(cat "$tmp/table")"

# What cannot be done is said, and the rest goes on.
"$program" --benchmark_repetitions=3 --benchmark_min_time=0.001 \
  --variants=linformer_encoder --shapes=1x32x1x8 --phases=prefill,decode \
  > "$tmp/table" || fail "an encoder"
grep -q 'decode .*NOT TIMED: .*cannot decode' "$tmp/table" ||
  fail "no reason: $(cat "$tmp/table")"

"$program" "${quick[@]}" --shapes=65537x1x1x16 --phases=train \
  > "$tmp/table" || fail "a shape that is too large"
[ "$(grep -c 'NOT TIMED' "$tmp/table")" = 2 ] ||
  fail "what is too large: $(cat "$tmp/table")"

# Names alone, and a filter.
"$program" --variants=linear --benchmark_list_tests \
  --benchmark_filter=prefill > "$tmp/list" || fail "listing"
[ "$(cat "$tmp/list")" = "linear/prefill/1x2048x8x64/1/mneme" ] ||
  fail "the list: $(cat "$tmp/list")"

# Mistakes: one line, exit code 2, nothing written.
expect_usage() {
  "$program" "$@" > "$tmp/stdout" 2> "$tmp/errors"
  [ $? = 2 ] || fail "exit code of $*"
  [ "$(wc -l < "$tmp/errors")" = 1 ] || fail "message of $*: $(cat "$tmp/errors")"
}
expect_usage --variants=lineer
expect_usage --nonsense
expect_usage --variants=linear --set chunk=nine
expect_usage --variants=linear --benchmark_filter='('
expect_usage --variants=linear --simd=AVX9
expect_usage --variants=linear --benchmark_filter=nothing
[ -s "$tmp/stdout" ] && fail "a table of nothing: $(cat "$tmp/stdout")"
expect_usage --variants=linear --benchmark_format=xml

# The record of a variant that a filter leaves out stays as it is.
mkdir -p "$tmp/kept"
echo old > "$tmp/kept/softmax.throughput"
"$program" --benchmark_repetitions=3 --benchmark_min_time=0.001 \
  --variants=linear,softmax --benchmark_filter='^linear/' --phases=prefill \
  --shapes=1x32x1x8 --out="$tmp/kept" > /dev/null || fail "a filter"
[ "$(cat "$tmp/kept/softmax.throughput")" = old ] || fail "a record is lost"

# However often it is asked for, once.
"$program" "${quick[@]}" --shapes=1x32x1x8,1x32x1x8 --phases=prefill,prefill \
  > "$tmp/table" || fail "doubled flags"
[ "$(grep -c ' prefill ' "$tmp/table")" = 1 ] ||
  fail "doubled flags: $(cat "$tmp/table")"
"$program" "${quick[@]}" --shapes=1x32x1x8 --phases=prefill \
  --out=/proc/nowhere > "$tmp/stdout" 2> "$tmp/errors" &&
  fail "a directory that cannot be written is taken"
[ "$(wc -l < "$tmp/errors")" = 1 ] && [ ! -s "$tmp/stdout" ] ||
  fail "a directory that cannot be written: $(cat "$tmp/errors")"

exit $((failures > 0))
