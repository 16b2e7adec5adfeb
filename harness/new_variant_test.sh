#!/usr/bin/env bash
# `mneme new-variant`: what it writes, where, what it refuses, and that it never
# leaves half of it behind.

set -uo pipefail

readonly tool=$PWD/harness/new_variant
readonly shipped=$PWD/attention/variants.bzl
failures=0

fail() {
  echo "FAIL: ${FUNCNAME[1]}: $*" >&2
  sed 's/^/  stdout| /' "$dir/stdout" >&2
  sed 's/^/  stderr| /' "$dir/stderr" >&2
  failures=$((failures + 1))
}

# run CODE ARG...: runs it as if by `bazel run` in the workspace $dir/w.
run() {
  local want=$1 got
  shift
  (cd / && exec env "${variables[@]}" "$tool" "$@") \
    >"$dir/stdout" 2>"$dir/stderr" </dev/null
  got=$?
  [[ $got == "$want" ]] || fail "exit code $got, not $want: $*"
}

says() { grep -qF -- "$2" "$dir/$1" || fail "$1 lacks: $2"; }
holds() { grep -qF -- "$2" "$dir/$1" || fail "$1 lacks: $2"; }
lacks() { [[ ! -e $dir/$1 ]] || fail "there is $1"; }
refuses() {
  local before after
  before=$(find "$dir/w" -type f -exec md5sum {} + | sort)
  run "$@"
  after=$(find "$dir/w" -type f -exec md5sum {} + | sort)
  [[ $before == "$after" ]] || fail "something changed: ${*:2}"
  [[ $(wc -l <"$dir/stderr") == 1 ]] || fail "stderr is not one line: ${*:2}"
}

# Makes $dir/w look like Mneme's own workspace.
mneme_workspace() {
  mkdir "$dir/w/attention"
  touch "$dir/w/attention/variant.h"
  cp "$shipped" "$dir/w/attention/variants.bzl"
  chmod u+w "$dir/w/attention/variants.bzl"
}

test_in_mneme_it_is_one_folder_and_one_line() {
  mneme_workspace
  # Old enough for what is written now to be newer by any clock.
  find "$dir/w" -type f -exec touch -d '1 hour ago' {} +
  touch -d '1 minute ago' "$dir/start"
  run 0 zeta_2_memory
  says stdout './bazelw test //attention/zeta_2_memory:zeta_2_memory_contract_test'
  says stdout './bazelw run //reports:leaderboard -- --variants=softmax,zeta_2_memory'
  holds w/attention/zeta_2_memory/zeta_2_memory.cc 'class Zeta2MemoryOperator'
  holds w/attention/zeta_2_memory/zeta_2_memory.cc 'd.title = "Zeta 2 memory";'
  holds w/attention/zeta_2_memory/BUILD 'name = "zeta_2_memory"'
  holds w/attention/zeta_2_memory/BUILD 'load("//attention:defs.bzl"'
  grep -rq 'my_variant\|MyVariant\|My variant\|@mneme' "$dir/w" && fail 'words of the skeleton are left'
  [[ $(find "$dir/w" -newer "$dir/start" -type f | wc -l) == 3 ]] ||
    fail "not two new files and a list: $(find "$dir/w" -type f)"
  # One line more, in the order of the alphabet, whether first, last or between.
  run 0 aaa
  run 0 lineal
  diff <(grep '^    "' "$dir/w/attention/variants.bzl") \
    <({
      grep '^    "' "$shipped"
      printf '    "//attention/%s",\n' aaa lineal zeta_2_memory
    } | LC_ALL=C sort) || fail 'the list is not the old one and three lines'
  diff <(grep -v '^    "' "$dir/w/attention/variants.bzl") \
    <(grep -v '^    "' "$shipped") || fail 'more than lines of the list changed'
}

test_elsewhere_it_says_which_line_to_add() {
  run 0 my_memory
  says stdout 'variants = ["//my_memory"]'
  says stdout 'bazel test //my_memory:my_memory_contract_test'
  holds w/my_memory/BUILD 'load("@mneme//attention:defs.bzl"'
  variables+=("BUILD_WORKING_DIRECTORY=$dir/w/my_memory")
  run 0 other --dir=../memories/
  says stdout 'variants = ["//memories/other"]'
  holds w/memories/other/other.cc 'class OtherOperator'
}

test_outside_of_a_workspace_it_needs_a_directory() {
  variables=(-u BUILD_WORKSPACE_DIRECTORY -u BUILD_WORKING_DIRECTORY)
  refuses 2 my_memory
  says stderr '--dir'
  run 0 my_memory --dir="$dir/new"
  holds new/my_memory/my_memory.cc 'class MyMemoryOperator'
}

test_bad_names() {
  mneme_workspace
  for name in MyMemory my-memory 2nd _a a_ a__b 'a b' ../a a/b '' é; do
    refuses 2 "$name"
    says stderr "\"$name\" cannot name a variant: it must be lower_snake_case"
  done
  for name in operator variants template; do
    refuses 2 $name
    says stderr "\"$name\" cannot name a variant: that word is taken"
  done
  refuses 2 softmax
  says stderr 'Mneme has one of that name'
  refuses 2 a23456789012345678901234567890123
  says stderr 'longer than 32'
  refuses 2 --dir=x
  refuses 2 a b
}

test_nothing_is_overwritten() {
  mneme_workspace
  for thing in kernels broken_link; do
    if [[ $thing == kernels ]]; then
      mkdir "$dir/w/attention/kernels"
    else
      ln -s nowhere "$dir/w/attention/$thing"
    fi
    refuses 1 $thing
    says stderr "there is a $dir/w/attention/$thing already"
  done
  sed -i 's|"//attention/softmax"|"//attention/taken"|' "$dir/w/attention/variants.bzl"
  refuses 1 taken
  says stderr 'is in attention/variants.bzl already'
  lacks w/attention/taken
}

test_a_failure_leaves_nothing() {
  mneme_workspace
  echo 'OTHERS = []' >"$dir/w/attention/variants.bzl"
  refuses 1 my_memory
  says stderr 'has no list'
  # A list that cannot be replaced is noticed after the folder was made.
  cp "$shipped" "$dir/list"
  ln -sf /dev/null "$dir/w/attention/variants.bzl"
  refuses 1 my_memory
  lacks w/attention/my_memory
  touch "$dir/w/file"
  refuses 1 my_memory --dir="$dir/w/file"
  [[ -z $(find "$dir/w" -name '.mneme-*') ]] || fail 'temporary files are left'
}

# What it writes needs no formatting, however short or long the name.
test_format() {
  for name in x a2345678901234567890123456789012; do
    run 0 $name
    clang-format --style=Google --dry-run --Werror "$dir/w/$name/$name.cc" \
      2>"$dir/stderr" || fail "clang-format would change $name.cc"
  done
}

for name in $(compgen -A function test_); do
  dir=$(realpath "$(mktemp -d "$TEST_TMPDIR/XXXXXX")")
  mkdir "$dir/w"
  touch "$dir/stdout" "$dir/stderr"
  variables=(
    "BUILD_WORKSPACE_DIRECTORY=$dir/w"
    "BUILD_WORKING_DIRECTORY=$dir/w"
  )
  echo "$name"
  "$name"
done
[[ $failures == 0 ]]
