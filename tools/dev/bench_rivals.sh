#!/bin/bash
# bench_rivals.sh [FLAGS...]: installs MPICH, oneCCL and OpenMPI, compiles perf/rivals/ against each, and
# hands over to rivals.py, whose flags these are. A rival that cannot be had is a RED line there, with
# the reason. The exit code is the report's: 1 when a line is RED.
set -euo pipefail
. "$SLIMCCL_ROOT/tools/dev/common.sh"
sources=$SLIMCCL_ROOT/perf/rivals
folder=$SLIMCCL_BUILD/bench
peers=$folder/rivals
mpich=mpich==5.0.2
# The CPU's library, its headers, and the large wheel for one file: the first asks for its libccl.so.2.
oneccl="oneccl-cpu==2022.2.0 oneccl-cpu-devel==2022.2.0 oneccl==2022.2.0"
missing=()

# fetch FOLDER PACKAGES...: the wheels' files into FOLDER. pip install --target loses their lib/.
fetch() {
  local into=$1 pip wheel
  shift
  pip=$(find_pip) || { echo "no pip; apt-get install python3-pip"; return 1; }
  rm -rf "$into"
  mkdir -p "$into/wheels"
  $pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$into/wheels" "$@" \
    </dev/null >&2 || { echo "pip could not fetch $*; is there a network?"; return 1; }
  for wheel in "$into"/wheels/*.whl; do
    "$PYTHON" -m zipfile -e "$wheel" "$into/wheels/unpacked" || { echo "$wheel is damaged"; return 1; }
    cp -r "$into"/wheels/unpacked/*.data/data/. "$into" || { echo "$wheel has no data"; return 1; }
    rm -rf "$into/wheels/unpacked"
  done
  rm -rf "$into/wheels"
}

# The functions below print why they failed; what else is to be seen goes to stderr.
install_mpich() {
  if [ ! -f "$peers/mpich/complete" ]; then
    say "installing into $peers/mpich: $mpich" >&2
    fetch "$peers/mpich" $mpich || return 1
    chmod +x "$peers"/mpich/bin/*
    touch "$peers/mpich/complete"
  fi
  "$peers/mpich/bin/mpicc" -O2 -o "$peers/rivals_mpich" "$sources/rivals_mpi.c" >&2 ||
    { echo "its mpicc could not compile rivals_mpi.c"; return 1; }
}

install_openmpi() {
  (need_packages openmpi) >&2 || { echo "openmpi-bin and libopenmpi-dev could not be installed"; return 1; }
  mpicc.openmpi -O2 -o "$peers/rivals_openmpi" "$sources/rivals_mpi.c" >&2 ||
    { echo "its mpicc could not compile rivals_mpi.c"; return 1; }
}

install_oneccl() {
  local root=$peers/oneccl
  if [ ! -f "$root/complete" ]; then
    say "installing into $root: $oneccl" >&2
    fetch "$root.all" $oneccl || return 1
    rm -rf "$root"
    mkdir -p "$root/lib"
    mv "$root.all/include" "$root" && mv "$root.all/lib/libccl.so.2" "$root/lib" || return 1
    # The wheels have this name in common: the large one's is for GPUs, so the CPU's comes last.
    fetch "$root.all" ${oneccl%% *} || return 1
    mv "$root.all/lib/libccl.so.1" "$root/lib" || return 1
    rm -rf "$root.all"
    touch "$root/complete"
  fi
  c++ -std=c++17 -O2 -w -isystem "$root/include" -o "$peers/rivals_oneccl" "$sources/rivals_ccl.cc" \
    "$root/lib/libccl.so.1" -Wl,-rpath,"$root/lib",-rpath-link,"$root/lib",--no-warnings >&2 ||
    { echo "rivals_ccl.cc does not compile"; return 1; }
}

install_or_note() { # install_or_note LIBRARY FUNCTION
  local reason
  reason=$($2) && return 0
  say "$1 is missing: ${reason:-not installed}"
  missing+=(--missing "$1=${reason:-not installed}")
}

[ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
  die "bench rivals makes network namespaces, which needs root, and there is no sudo"
mkdir -p "$peers"
if [ "$(uname -m)" = x86_64 ]; then
  install_or_note MPICH install_mpich
  install_or_note oneCCL install_oneccl
else
  missing+=(--missing "MPICH=its wheel is fetched for x86-64 only" --missing "oneCCL=its wheel is for x86-64")
fi
install_or_note OpenMPI install_openmpi
as_root "$PYTHON" "$SLIMCCL_ROOT/tools/dev/rivals.py" --ours "$SLIMCCL_BUILD/perf/rivals_slimccl" \
  --peers "$peers" --out "$folder" "${missing[@]}" "$@"
