#!/bin/bash
# bench.sh [codecs] [FLAGS...]: runs the benchmarks that were built. FLAGS are Google Benchmark's.
# bench.sh overlay [FLAGS...]: a forwarded call beside a direct one; FLAGS are Google Benchmark's.
# bench.sh rivals [FLAGS...]: FLAGS are those of rivals.py.
# Times depend on the machine: compare within one run only.
set -euo pipefail
. "$SLIMCCL_ROOT/tools/dev/common.sh"
if [ "${1:-}" = codecs ]; then
  shift
  exec "$SLIMCCL_ROOT/tools/dev/bench_codecs.sh" --with-peers "$@"
fi
if [ "${1:-}" = rivals ]; then
  shift
  exec "$SLIMCCL_ROOT/tools/dev/bench_rivals.sh" "$@"
fi
if [ "${1:-}" = overlay ]; then
  shift
  LD_PRELOAD=$SLIMCCL_BUILD/plugin/preload/libslimccl-preload.so exec "$SLIMCCL_BUILD/perf/overlay_bench" "$@"
fi
codecs=0
"$SLIMCCL_ROOT/tools/dev/bench_codecs.sh" "$@" || codecs=$?
say "collective_perf, 4 ranks as two pretended nodes on this machine (loopback speed, no limit)"
for collective in all_gather reduce_scatter all_reduce; do
  for profile in exact zeropp; do
    SLIMCCL_PROFILE=$profile "$PYTHON" "$SLIMCCL_ROOT/tools/dev/launch.py" --nodes 2x2 -- \
      "$SLIMCCL_BUILD/perf/collective_perf" "$collective" -b 1M -e 64M -f 8 -n 5 -w 1 -c 1
  done
done
say "not there yet: benchmarks of plans and of CUDA"
exit "$codecs"
