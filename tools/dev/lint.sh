#!/bin/bash
# lint.sh [all]: format, static checks and shape. Changed files against the main branch's base, or all.
set -uo pipefail
. "$SLIMCCL_ROOT/tools/dev/common.sh"
folder=$SLIMCCL_BUILD
[ -f "$folder/compile_commands.json" ] || build "$folder"
failed=0
mapfile -t sources < <(git ls-files '*.cc' '*.h' '*.c')
say "clang-format: ${#sources[@]} files"
clang-format --dry-run -Werror "${sources[@]}" || {
  failed=1
  echo "dev: fix it with: clang-format -i FILE..." >&2
}
base=$(git rev-parse -q --verify origin/main || git rev-parse -q --verify HEAD~1 || echo HEAD)
if [ "${1:-}" = all ]; then
  mapfile -t units < <(git ls-files '*.cc')
else
  mapfile -t units < <({ git diff --name-only --diff-filter=d "$base" -- '*.cc'; git ls-files -o \
    --exclude-standard '*.cc'; } | sort -u)
fi
built=()
for unit in "${units[@]}"; do
  grep -q "\"file\": .*$unit\"" "$folder/compile_commands.json" && built+=("$unit")
done
say "clang-tidy: ${#built[@]} files (of ${#units[@]}; './dev lint all' takes every one)"
if [ ${#built[@]} -gt 0 ]; then
  printf '%s\n' "${built[@]}" |
    xargs -P "$(nproc)" -n 1 tools/dev/tidy.sh "$folder" || failed=1
fi
say "shape"
"$PYTHON" tools/check_shape.py || failed=1
[ $failed = 0 ] && say "lint: clean" || die "lint found something; see above"
