#!/bin/sh
# compile_kernels.sh REPORT NVCC ARGUMENTS...: runs nvcc and keeps what ptxas says (registers, spills)
# in REPORT instead of on the screen. Called by the build only.
report=$1
shift
"$@" 2>"$report" || {
  code=$?
  cat "$report" >&2
  exit $code
}
