#!/bin/bash
# tidy.sh FOLDER FILE: clang-tidy on one file; exit code 1 when it finds something in our own code.
# clang 14 cannot read all of libstdc++ 12's <ranges>. Such errors, in the library and where it is
# used, are its own, so they are only counted: such a file was checked in part.
set -uo pipefail
output=$(nice clang-tidy -p "$1" --quiet "$2" 2>/dev/null)
theirs=$(grep -cE 'error: .*\[clang-diagnostic-error\]' <<<"$output")
[ "$theirs" = 0 ] ||
  echo "$2: checked in part, clang-tidy stumbled $theirs times, mostly over the standard library"
ours=$(grep -E "^$SLIMCCL_ROOT/.*(warning|error): " <<<"$output" | grep -v 'clang-diagnostic-error')
[ -z "$ours" ] || {
  echo "$ours"
  exit 1
}
