# shellcheck shell=bash
# Output of the test scripts. Sourced, not run.

heading() { printf '\n=== %s\n' "$*"; }
note() { printf -- '--- %s\n' "$*"; }
ok() { printf 'ok   %s\n' "$*"; }
skip() { printf 'SKIP %s\n' "$*"; }
fail() {
  printf 'FAIL %s\n' "$*" >&2
  exit 1
}
