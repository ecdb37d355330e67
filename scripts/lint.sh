#!/usr/bin/env bash
# clang-tidy on our sources (.clang-tidy has the checks). Needs a configured build/release.
# usage: scripts/lint.sh               every source
#        scripts/lint.sh --changed     those that differ from origin/main, or that the last commit touched
#        scripts/lint.sh FILE...
set -euo pipefail
cd "$(dirname "$0")/.."

database=build/lint
most_changed=12   # a file takes about 20 seconds
rooms='^(cli|common|configs|kernels|data|target_models|draft_models|trainer|decoding|tests)/|^main\.cpp$'
case "${1:-}" in
  --changed)
    base=$(git merge-base HEAD origin/main 2>/dev/null || true)
    [ -n "$base" ] && [ "$base" != "$(git rev-parse HEAD)" ] ||
      base=$(git rev-parse -q --verify HEAD~1 || git hash-object -t tree /dev/null)  # a clone of one commit: every file
    files=$(git diff --name-only --diff-filter=d "$base" -- '*.cpp' '*.h') ;;
  "") files=$(git ls-files '*.cpp') ;;
  *) files=$(printf '%s\n' "$@") ;;
esac
# A changed header is checked through the sources of its name, if there are any.
files=$(sed 's/\.h$/.cpp/' <<<"$files" | { grep -E "$rooms" || true; } | sort -u | xargs -r ls 2>/dev/null || true)
if [ "${1:-}" = --changed ] && [ "$(wc -l <<<"$files")" -gt "$most_changed" ]; then
  echo "clang-tidy: the first $most_changed of $(wc -l <<<"$files") changed files; scripts/lint.sh checks every file"
  files=$(head -n "$most_changed" <<<"$files")
fi
if [ -z "$files" ]; then echo "clang-tidy: nothing to check"; exit 0; fi

# clang cannot read GCC's precompiled header; its own halves the time.
python3 scripts/lint_database.py build/release "$database"
mapfile -t list <<<"$files"
python3 scripts/lint_run.py "$database" "${list[@]}"
