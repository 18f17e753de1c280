#!/bin/sh
# compile_kernels.sh REPORT PTX... -- NVCC ARGUMENTS...: runs nvcc and keeps what ptxas says (registers,
# spills) in REPORT instead of on the screen, and in PTX... the texts that the cubins and the fatbin's
# PTX were made of, by nvcc's own names for them (kernels.compute_80.ptx). Called by the build only.
report=$1
shift
texts=
while [ "$1" != -- ]; do
  texts="$texts $1" # relative to the build folder: without spaces
  shift
done
shift
kept=$(mktemp -d) || exit
trap 'rm -rf "$kept"' EXIT
"$@" --keep --keep-dir "$kept" 2>"$report" || {
  code=$?
  cat "$report" >&2
  exit $code
}
for text in $texts; do
  mv "$kept/$(basename "$text")" "$text" || {
    echo "compile_kernels.sh: $1 kept no $(basename "$text"); it kept:" "$(ls "$kept")" >&2
    exit 1
  }
done
