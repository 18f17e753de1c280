#!/bin/bash
# Runs the benchmarks that were built. Times depend on the machine: compare within one run only.
set -euo pipefail
. "$SLIMCCL_ROOT/tools/dev/common.sh"
found=0
for name in codec_bench plan_bench; do
  program=$SLIMCCL_BUILD/perf/$name
  if [ -x "$program" ]; then
    say "$name"
    "$program" "$@"
    found=$((found + 1))
  else
    say "$name: not there yet"
  fi
done
say "collective_perf, 4 ranks as two pretended nodes on this machine (loopback speed, no limit)"
for collective in all_gather reduce_scatter all_reduce; do
  for profile in exact zeropp; do
    SLIMCCL_PROFILE=$profile "$PYTHON" "$SLIMCCL_ROOT/tools/dev/launch.py" --nodes 2x2 -- \
      "$SLIMCCL_BUILD/perf/collective_perf" "$collective" -b 1M -e 64M -f 8 -n 5 -w 1 -c 1
  done
done
say "$found micro-benchmarks ran; there are no CUDA benchmarks yet"
