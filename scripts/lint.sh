#!/usr/bin/env bash
# clang-tidy on our sources (.clang-tidy has the checks), in the batches in which they are compiled. Needs a configured
# build/release.
# usage: scripts/lint.sh               every source
#        scripts/lint.sh --changed     those that differ from origin/main, or that the last commit touched
#        scripts/lint.sh FILE...
set -euo pipefail
cd "$(dirname "$0")/.."

database=build/lint
most_changed=20   # a batch takes about 20 seconds of one core
most=() files=()
case "${1:-}" in
  --changed)
    base=$(git merge-base HEAD origin/main 2>/dev/null || true)
    [ -n "$base" ] && [ "$base" != "$(git rev-parse HEAD)" ] ||
      base=$(git rev-parse -q --verify HEAD~1 || git hash-object -t tree /dev/null)  # a clone of one commit: every file
    # A changed header is checked through the source of its name, if there is one.
    mapfile -t files < <(git diff --name-only --diff-filter=d "$base" -- '*.cpp' '*.h' | sed 's/\.h$/.cpp/' | sort -u |
                         xargs -r ls 2>/dev/null)
    if [ ${#files[@]} -eq 0 ]; then echo "clang-tidy: nothing to check"; exit 0; fi
    most=(--most "$most_changed") ;;
  "") ;;
  *) files=("$@") ;;
esac

[ -x .venv/bin/clang-tidy ] || { echo ".venv/bin/clang-tidy is missing: run scripts/setup.sh first" >&2; exit 1; }
python3 scripts/lint_database.py build/release "$database"
python3 scripts/lint_run.py "$database" "${most[@]}" "${files[@]}"
