#!/bin/sh
# find_nvcc.sh PROJECT: prints the first nvcc that knows sm_100, which 12.8 was the first to do, or
# nothing. What is passed over for its age is said on stderr.
for nvcc in "$1/.cache/cuda/nvidia/cu13/bin/nvcc" "$(command -v nvcc)" \
  "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
  [ -x "$nvcc" ] || continue
  release=$("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
  if [ "$(printf '12.8\n%s\n' "$release" | sort -V | head -n 1)" = 12.8 ]; then
    echo "$nvcc"
    exit 0
  fi
  echo "$nvcc says release \"$release\": the CUDA kernels need 12.8 or newer" >&2
done
