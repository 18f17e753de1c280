#!/bin/bash
# bench_codecs.sh [--with-peers] [FLAGS...]: runs perf/codec_bench, keeps build/bench/codecs.json, prints
# the report. The exit code is the report's: 1 when a gate is RED. FLAGS are Google Benchmark's.
set -euo pipefail
. "$SLIMCCL_ROOT/tools/dev/common.sh"
folder=$SLIMCCL_BUILD/bench
peers=$folder/peers
packages="fbgemm-gpu-cpu==1.9.0 pywhispercpp==1.5.1" # FBGEMM; ggml is in the second
# Their libraries are loaded, not their Python: any wheel for Linux on x86-64 will do.
wheel="--no-deps --only-binary=:all: --implementation cp --python-version 3.11 --platform manylinux_2_28_x86_64
  --platform manylinux_2_27_x86_64"

# FBGEMM's library names PyTorch's libraries, and finds these beside itself.
make_stand_ins() {
  local name
  for name in libtorch_cpu libtorch libc10; do
    cc -shared -fPIC -o "$peers/fbgemm_gpu/$name.so" -Wl,-soname,$name.so \
      "$SLIMCCL_ROOT/perf/codecs/fbgemm_stand_in.c" || return 1
  done
}

# Only what is loaded is kept; the mark says that all of it is there.
install_peers() {
  local pip
  [ -f "$peers/complete" ] && return 0
  [ "$(uname -m)" = x86_64 ] || { say "SKIPPED peers: their wheels here are for x86-64"; return 0; }
  pip=$(find_pip) || { say "SKIPPED peers: no pip; apt-get install python3-pip"; return 0; }
  say "installing into $peers: $packages"
  rm -rf "$peers"
  if ! $pip install --quiet --disable-pip-version-check --target "$peers" $wheel $packages; then
    say "SKIPPED peers: pip could not install them; is there a network?"
    return 0
  fi
  make_stand_ins || { say "SKIPPED FBGEMM: its stand-in for PyTorch does not compile"; return 0; }
  touch "$peers/complete"
}

mkdir -p "$folder"
flags=()
if [ "${1:-}" = --with-peers ]; then
  shift
  install_peers
  flags=("--peers=$peers")
fi
[ -x "$SLIMCCL_BUILD/perf/codec_bench" ] || die "no codec_bench: it needs libbenchmark-dev; then build again"
say "codec_bench: every kernel beside its ceiling; some minutes"
"$SLIMCCL_BUILD/perf/codec_bench" "${flags[@]}" --benchmark_out="$folder/codecs.json" "$@"
exec "$PYTHON" "$SLIMCCL_ROOT/tools/dev/codec_report.py" "$folder/codecs.json"
