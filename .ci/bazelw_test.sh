#!/usr/bin/env bash
# What bazelw does, with every program it calls replaced by a stand-in.

set -uo pipefail

readonly home=$TEST_TMPDIR
failures=0

# --- The stand-ins: each notes its arguments in a file of its own name ---

stand_in() {
  printf '#!/bin/bash\n%s\n' "$2" > "$home/bin/$1"
  chmod +x "$home/bin/$1"
}

# A fresh workspace needing alpha, beta and (in CI) gamma.
set_up() {
  rm -rf "${home:?}"/*
  mkdir -p "$home/bin" "$home/tree/third_party"
  cp -L bazelw "$home/tree/bazelw"
  printf '%s\n' '# Reasons.' '' 'alpha # one' 'beta' 'gamma  [ci] # three' \
    > "$home/tree/third_party/packages.txt"
  # All that bazelw may use of the real machine.
  local tool
  for tool in bash cat dirname env grep mktemp rm sed tail; do
    ln -s "$(command -v $tool)" "$home/bin/$tool"
  done
  # Installed packages are the lines of a file; like the real one it fails if
  # it does not know a package.
  touch "$home/installed"
  stand_in dpkg-query "
    status=0
    for name in \"\${@:3}\"; do
      if grep -qx \"\$name\" $home/installed; then
        echo \"\$name installed\"
      else
        status=1
      fi
    done
    exit \$status"
  stand_in apt-get "
    echo \"\$*\" >> $home/apt-get.calls
    [[ -z \$(cat) ]] || echo 'apt-get was given stdin' >> $home/apt-get.calls
    source $home/apt-get.does
    exit 0"
  echo 'for name in "$@"; do echo "$name"; done >> '"$home/installed" \
    > "$home/apt-get.does"
  stand_in id 'echo 0'
  stand_in bazel-4 "
    printf '<%s>' \"\$@\" > $home/bazel.calls
    echo \$\$ > $home/bazel.pid
    cat > $home/bazel.stdin
    exit 7"
}

# Runs bazelw with only the stand-ins in reach.
bazelw() {
  PATH=$home/bin "$home/tree/bazelw" "$@" \
    >"$home/stdout" 2>"$home/stderr" <<<"for the program" &
  pid=$!
  wait $pid
  status=$?
}

# --- What is expected of it ---

fail() {
  echo "FAILED $test: $*"
  echo "--- stderr was:"
  cat "$home/stderr"
  failures=$((failures + 1))
}
expect_status() { [[ $status == "$1" ]] || fail "exit code $status, not $1"; }
expect_file() {
  local content
  content=$(cat "$home/$1" 2>/dev/null)
  [[ $content == "$2" ]] || fail "$1 holds '$content', not '$2'"
}
expect_stderr() {
  grep -qF -- "$1" "$home/stderr" || fail "stderr does not say '$1'"
}
expect_no() { [[ ! -s $home/$1 ]] || fail "$1 exists: $(cat "$home/$1")"; }

readonly apt_install='--yes --no-install-recommends -o DPkg::Lock::Timeout=120 install'
readonly apt_update='--yes --no-install-recommends -o DPkg::Lock::Timeout=120 update'

test_nothing_missing() {
  printf '%s\n' alpha beta > "$home/installed"
  bazelw run '//a b:c' -- '' '*' --flag='x y'
  expect_status 7
  expect_file bazel.calls '<run><//a b:c><--><><*><--flag=x y>'
  expect_file bazel.stdin 'for the program'
  expect_file bazel.pid "$pid"  # The same process: it gets the signals.
  expect_no stdout
  expect_no stderr
  expect_no apt-get.calls
}

test_root_installs_what_is_missing() {
  echo alpha > "$home/installed"
  bazelw build
  expect_status 7
  expect_file apt-get.calls "$apt_install beta"
  expect_file bazel.calls '<build>'
  expect_file bazel.stdin 'for the program'
  expect_no stdout
  expect_stderr 'installing 1 Debian packages: beta'
}

test_ci_packages_on_request() {
  printf '%s\n' alpha beta > "$home/installed"
  MNEME_PACKAGES=ci bazelw build
  expect_status 7
  expect_file apt-get.calls "$apt_install gamma"
}

test_user_installs_by_sudo() {
  stand_in id 'echo 1000'
  stand_in sudo "
    echo \"\$*\" >> $home/sudo.calls
    [[ \$1 == --non-interactive ]] && shift
    exec \"\$@\""
  bazelw build
  expect_status 7
  expect_file sudo.calls "--non-interactive env LC_ALL=C.UTF-8 \
DEBIAN_FRONTEND=noninteractive apt-get $apt_install alpha beta"
  expect_file bazel.calls '<build>'
}

test_user_without_sudo_is_told_the_command() {
  stand_in id 'echo 1000'
  bazelw build
  expect_status 1
  expect_stderr '  apt-get install --no-install-recommends alpha beta'
  expect_no apt-get.calls
  expect_no bazel.calls
}

test_stale_lists_are_updated_once() {
  echo "
    [[ \$* == *update* ]] && echo > $home/updated && exit
    [[ -e $home/updated ]] || { echo 'E: 404 Not Found'; exit 100; }
    printf '%s\\n' alpha beta >> $home/installed" > "$home/apt-get.does"
  bazelw build
  expect_status 7
  expect_file apt-get.calls "$apt_install alpha beta
$apt_update
$apt_install alpha beta"
}

test_failed_install_says_which_and_why() {
  echo "
    [[ \$* == *update* ]] && echo 'W: Failed to fetch a list' && exit 0
    echo 'Reading package lists...'
    echo 'E: Unable to locate package beta'
    exit 100" > "$home/apt-get.does"
  bazelw build
  expect_status 1
  expect_stderr 'cannot install beta:'
  expect_stderr '  E: Unable to locate package beta'
  expect_stderr '  W: Failed to fetch a list'
  expect_no bazel.calls
}

test_failed_update_says_why() {
  echo "
    [[ \$* == *update* ]] && echo 'E: Failed to fetch the lists'
    exit 100" > "$home/apt-get.does"
  bazelw build
  expect_status 1
  expect_stderr 'installing 2 Debian packages: alpha beta'
  expect_stderr 'cannot install any of these:'
  expect_stderr '  E: Failed to fetch the lists'
  expect_no bazel.calls
}

test_not_debian() {
  rm "$home/bin/dpkg-query"
  bazelw build
  expect_status 1
  expect_stderr 'use Debian 12'
  [[ $(grep -c '' "$home/stderr") == 1 ]] || fail 'more than one line'
  expect_no bazel.calls
}

for test in $(compgen -A function test_); do
  set_up
  $test
done
echo "$failures failures"
[[ $failures == 0 ]]
