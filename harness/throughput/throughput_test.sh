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
  grep -q "^linear  *$phase  *1x96x2x16  *mneme " "$tmp/table" ||
    fail "no row for $phase: $(cat "$tmp/table")"
done
[ -s "$tmp/out/linear.throughput" ] || fail "no record"
python3 - "$tmp/a.json" << 'END' || fail "the JSON"
import json, sys
rows = json.load(open(sys.argv[1]))["throughput"]
assert [r["phase"] for r in rows] == ["prefill", "decode", "backward"], rows
for r in rows:
    assert r["variant"] == "linear" and r["shape"] == "1x96x2x16", r
    assert r["threads"] == 1 and r["milliseconds"] > 0, r
    assert r["tokens_per_second"] > 0 and r["gflops"] > 0, r
    assert 0 < r["fraction_of_limit"], r
END

# JSON on stdout is JSON alone.
"$program" "${quick[@]}" --shapes=1x32x1x8 --phases=prefill --json=- |
  python3 -c 'import json,sys; json.load(sys.stdin)' || fail "--json=-"

# Google Benchmark's own outputs are one document each.
"$program" "${quick[@]}" --shapes=1x32x1x8,1x64x1x8 --phases=prefill \
  --benchmark_out="$tmp/gb.json" --benchmark_format=json > "$tmp/gb2.json"
for file in gb.json gb2.json; do
  python3 -c 'import json,sys
names = [b["name"] for b in json.load(open(sys.argv[1]))["benchmarks"]]
assert any("linear/prefill/1x64x1x8" in n for n in names), names
assert any("ceiling/fma" in n for n in names), names' "$tmp/$file" ||
    fail "Google Benchmark's $file"
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
"$program" "${quick[@]}" --shapes=1x32x1x8 --phases=prefill \
  --out=/proc/nowhere > "$tmp/stdout" 2> "$tmp/errors" &&
  fail "a directory that cannot be written is taken"
[ "$(wc -l < "$tmp/errors")" = 1 ] && [ ! -s "$tmp/stdout" ] ||
  fail "a directory that cannot be written: $(cat "$tmp/errors")"

exit $((failures > 0))
