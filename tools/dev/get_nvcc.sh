# Sourced by ./dev: NVIDIA's compiler for machines without the CUDA toolkit. It only builds: nothing
# of SlimCCL is linked to what is fetched here, and no GPU is needed.

# get_nvcc: makes sure that src/quant/cuda/meson.build finds nvcc, if need be from PyPI. Where that
# fails, it says so and the tests that need kernels are skipped.
get_nvcc() {
  local folder=$SLIMCCL_ROOT/.cache/cuda
  if [ -n "$("$SLIMCCL_ROOT/src/quant/cuda/find_nvcc.sh" "$SLIMCCL_ROOT")" ]; then return 0; fi
  if [ ! -x "$folder/nvidia/cu13/bin/nvcc" ]; then
    say "no nvcc that will do: fetching it from PyPI into $folder (about 100 MB, once)"
    (fetch_nvcc "$folder") || { # a subshell: its die ends nothing else
      say "nvcc could not be fetched (pip says why, above): tests of CUDA kernels will say SKIPPED"
      return 0
    }
  fi
  # A folder that was configured without nvcc does not look for it again by itself.
  local ninja=$SLIMCCL_BUILD/build.ninja
  if [ -f "$ninja" ] && ! grep -q kernels.fatbin "$ninja"; then
    say "configuring $SLIMCCL_BUILD again, with nvcc"
    /usr/bin/meson setup --reconfigure "$SLIMCCL_BUILD" "$SLIMCCL_ROOT" >/dev/null
  fi
}

fetch_nvcc() { # fetch_nvcc FOLDER
  local python=python3
  "$python" -m pip --version >/dev/null 2>&1 || { python=$PYTHON && need_packages pip; } || return 1
  rm -rf "$1.new"
  mkdir -p "$(dirname "$1")"
  "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --only-binary :all: --target "$1.new" nvidia-cuda-nvcc==13.0.88 \
    nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 'nvidia-cuda-runtime==13.0.*' </dev/null || return 1
  rm -rf "$1"
  mv "$1.new" "$1"
}
