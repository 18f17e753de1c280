# Sourced by ./dev and its helpers: messages, packages, builds.

say() { printf '== %s\n' "$*"; }
die() { # die MESSAGE [EXIT CODE]
  printf 'dev: %s\n' "$1" >&2
  exit "${2:-1}"
}

# need_packages build|lint|cluster|pip|venv|openmpi: installs what is missing, and only then touches the network.
need_packages() {
  local cluster="iproute2 util-linux"
  local packages="$cluster g++ meson ninja-build pkg-config libucx-dev libhwloc-dev libhwy-dev libtomlplusplus-dev
    libgtest-dev libgmock-dev libbenchmark-dev libcli11-dev nlohmann-json3-dev
    binutils git python3-numpy python3-matplotlib"
  case $1 in
    cluster) packages=$cluster ;;
    pip) packages=python3-pip ;;
    venv) packages=python3-venv ;;
    openmpi) packages="openmpi-bin libopenmpi-dev" ;;
    lint) packages="$packages clang-format clang-tidy" ;;
  esac
  local package missing=()
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here: taking it that these are installed: $(echo $packages)"
    return 0
  fi
  for package in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "missing packages, and neither root nor sudo to install them.
  Ask an administrator for: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} missing packages with apt-get: ${missing[*]}"
  local options=(-qq -y --no-install-recommends)
  "${as_root[@]}" apt-get -qq update </dev/null ||
    say "apt-get update failed; trying the package lists that are here"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install \
    "${missing[@]}" </dev/null >/dev/null ||
    die "apt-get could not install: ${missing[*]}
  Look at its message above; is there a network, and is this Debian 12?"
}

# Namespaces need root; only what makes them runs as root.
as_root() { # as_root CMD...: never returns
  if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null; then
    exec sudo --preserve-env=SLIMCCL_ROOT,SLIMCCL_BUILD,PYTHONDONTWRITEBYTECODE,CLUSTER_NAME "$@"
  fi
  exec "$@"
}

# find_pip: prints the command of a Python that has pip; fails when there is none.
find_pip() {
  local python
  for python in "$PYTHON" python3 python; do
    if "$python" -m pip --version >/dev/null 2>&1; then
      echo "$python -m pip"
      return 0
    fi
  done
  return 1
}

# build FOLDER [MESON OPTIONS...]: configures once, then brings BUILD_TARGETS, or all, up to date.
build() {
  local folder=$1
  shift
  if [ ! -f "$folder/build.ninja" ]; then
    say "configuring $folder"
    /usr/bin/meson setup "$folder" "$SLIMCCL_ROOT" "$@" >"/tmp/slimccl-setup.$$" 2>&1 || {
      cat "/tmp/slimccl-setup.$$" >&2
      rm -f "/tmp/slimccl-setup.$$"
      die "meson could not configure $folder; its last lines above say why"
    }
    rm -f "/tmp/slimccl-setup.$$"
  fi
  say "building in $folder (the first time takes some minutes)"
  nice ninja -C "$folder" --quiet ${BUILD_TARGETS:-} || die "the build in $folder failed; the first error above is the one"
}
