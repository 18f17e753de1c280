# Sourced by ./dev: what tests/trainers needs beside our own build. PyTorch's CUDA build and DeepSpeed come from PyPI
# into a cache; the stubs of NVIDIA's libraries and the CPU kernels behind CUDA's operators are made in build/trainers.

trainers_home=$SLIMCCL_ROOT/tests/trainers

trainers() { # trainers setup [--no-deepspeed] | run [NAME...] [--all] | time | once SCRIPT [OPTIONS]
  case ${1:-} in
    setup) trainers_setup "${@:2}" ;;
    run) exec "$PYTHON" "$trainers_home/run_all.py" "${@:2}" ;;
    time) exec "$PYTHON" "$trainers_home/step_time.py" "${@:2}" ;;
    once) exec "$PYTHON" "$trainers_home/torchrun.py" "${@:2}" ;;
    *) die "trainers what? ./dev trainers setup [--no-deepspeed], run [NAME...] [--all], time, or once SCRIPT [OPTIONS]" 2 ;;
  esac
}

trainers_setup() { # trainers_setup [--no-deepspeed]
  local deepspeed=yes venv
  [ "${1:-}" = --no-deepspeed ] && deepspeed=no && shift
  [ $# -eq 0 ] || die "trainers setup knows --no-deepspeed, not '$1'" 2
  get_nvcc # without kernels the overlay compresses nothing
  venv=$(find_trainers_venv $deepspeed) || {
    venv=${SLIMCCL_CACHE:-$SLIMCCL_ROOT/.cache}/trainers/venv
    make_trainers_venv "$venv" $deepspeed
  }
  build_trainers "$venv"
  say "torch $(pinned torch) is ready in $venv"
}

# A venv made for these versions has their checksum in it, written last.
trainers_stamp() { sha256sum <"$trainers_home/requirements.txt" | cut -c1-64; }

find_trainers_venv() { # find_trainers_venv DEEPSPEED: prints the folder of a finished one; fails if there is none
  local folder stamp
  stamp=$(trainers_stamp)
  for folder in ${SLIMCCL_CACHE:+"$SLIMCCL_CACHE"} "$SLIMCCL_ROOT/.cache" "${XDG_CACHE_HOME:-$HOME/.cache}/slimccl"; do
    case "$1 $(cat "$folder/trainers/venv/slimccl-stamp" 2>/dev/null)" in
      "yes $stamp yes" | "no $stamp yes" | "no $stamp no") echo "$folder/trainers/venv" && return 0 ;;
    esac
  done
  return 1
}

pinned() { sed -n "s/^$1==//p" "$trainers_home/requirements.txt"; } # pinned PACKAGE: its version

trainers_pip() { # trainers_pip VENV WHAT PIP ARGUMENTS...: three tries; pip's own words only when all failed
  local venv=$1 what=$2 log=$1/slimccl-pip.log try
  for try in 1 2 3; do
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --retries 5 \
      --timeout 60 --no-deps "${@:3}" </dev/null >"$log" 2>&1 && return 0
    say "$what: try $try of 3 failed"
    sleep $((try * 2))
  done
  tail -n 15 "$log" >&2
  die "$what could not be installed; pip says why, above.
  Is PyPI, or the mirror that pip is configured for, reachable? Then: ./dev trainers setup"
}

make_trainers_venv() { # make_trainers_venv FOLDER DEEPSPEED
  local venv=$1 torch deepspeed home=$trainers_home
  torch=$(pinned torch) deepspeed=$(pinned deepspeed)
  [ "$(uname -m)" = x86_64 ] || die "torch $torch's wheel and the emulation are for x86-64; this is $(uname -m)"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    die "$home/requirements.txt is for Python 3.11; $PYTHON is $("$PYTHON" --version)"
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || need_packages venv
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  "$PYTHON" -m venv "$venv" || die "$PYTHON -m venv $venv failed; apt-get install python3-venv may help"
  say "installing the Python packages that torch and DeepSpeed need (30 MB) into $venv"
  grep -v '^torch=\|^deepspeed=' "$home/requirements.txt" >"$venv/slimccl-base.txt"
  trainers_pip "$venv" "the packages of tests/trainers/requirements.txt" -r "$venv/slimccl-base.txt"
  if [ "$2" = yes ]; then
    say "installing DeepSpeed $deepspeed (2 MB, pure Python)"
    DS_BUILD_OPS=0 trainers_pip "$venv" "DeepSpeed $deepspeed" --no-build-isolation "deepspeed==$deepspeed"
  fi
  say "fetching torch $torch with CUDA (531 MB, 1.3 GB unpacked; once)"
  trainers_pip "$venv" "torch $torch (531 MB)" "torch==$torch"
  echo "$(trainers_stamp) $2" >"$venv/slimccl-stamp"
}

# build_trainers VENV: stubs and CPU kernels, each anew when its sources have changed.
build_trainers() {
  local venv=$1 folder=$SLIMCCL_BUILD/trainers torch
  torch=$(echo "$venv"/lib/python3.*/site-packages/torch)
  mkdir -p "$folder"
  ln -sfn "$venv" "$folder/venv"
  outdated "$folder/stubs" make_stubs.py && {
    say "making stubs of NVIDIA's libraries"
    rm -rf "$folder/stubs"
    "$PYTHON" "$trainers_home/make_stubs.py" "$torch/lib" "$folder/stubs" >"$folder/stubs.log" ||
      die "tests/trainers/make_stubs.py failed, see above; it needs gcc and binutils"
    built "$folder/stubs" make_stubs.py
  }
  outdated "$folder/libfallback.so" fallback && {
    say "compiling tests/trainers/fallback against torch's headers (half a minute)"
    compile_fallback "$torch" "$folder"
    built "$folder/libfallback.so" fallback
  }
  return 0
}

# A result carries the checksum of what it was built from: the pinned packages, a file or folder of tests/trainers.
sources_stamp() { (cd "$trainers_home" && find requirements.txt "$1" -type f | sort | xargs cat | sha256sum); }
outdated() { [ "$(cat "$1.stamp" 2>/dev/null)" != "$(sources_stamp "$2")" ]; } # outdated RESULT SOURCES
built() { sources_stamp "$2" >"$1.stamp"; }                                    # built RESULT SOURCES

compile_fallback() { # compile_fallback TORCH FOLDER
  local torch=$1 folder=$2
  rm -f "$folder"/*.o
  printf '%s\0' "$trainers_home"/fallback/*.cc | xargs -0 -P "$(nproc)" -I{} sh -c '
    exec g++ -std=c++20 -O1 -fPIC -fvisibility=hidden -Wall -Wextra -DAT_PER_OPERATOR_HEADERS \
      -isystem "$1/include" -c "$2" -o "$3/$(basename "$2" .cc).o"' - "$torch" {} "$folder" ||
    die "tests/trainers/fallback does not compile; the first error above is the one"
  g++ -shared -o "$folder/libfallback.so" "$folder"/*.o -L"$torch/lib" \
    -Wl,--no-as-needed,--allow-shlib-undefined -ltorch_cpu -lc10 ||
    die "tests/trainers/fallback cannot be linked with $torch/lib"
}
