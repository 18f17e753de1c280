#!/bin/bash
# settings.sh write|check: docs/settings.md from the settings table in src/base/config.h.
set -euo pipefail
. "$SLIMCCL_ROOT/tools/dev/common.sh"
document=$SLIMCCL_ROOT/docs/settings.md
case ${1:-} in
  write)
    "$SLIMCCL_BUILD/perf/settings_table" >"$document"
    say "wrote $document"
    ;;
  check)
    "$SLIMCCL_BUILD/perf/settings_table" | diff -u "$document" - ||
      die "docs/settings.md is stale: run ./dev settings and commit it"
    ;;
  *) die "usage: settings.sh write|check" 2 ;;
esac
