#!/usr/bin/env bash
# Prints the path of a cargo that is new enough for data/hf_text: the one on PATH, else rustup's, else Debian's.
# Exit code 1 if there is none. Set-up and CMake both ask here, so they agree.
# usage: scripts/find_cargo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/versions.env

for cargo in "$(command -v cargo || true)" "${CARGO_HOME:-${HOME:-}/.cargo}/bin/cargo" /usr/bin/cargo; do
  [ -x "$cargo" ] || continue
  # `cargo 1.96.0 (...)`; rustup's cargo without a toolchain prints nothing.
  version=$("$cargo" --version 2>/dev/null | cut -d ' ' -f 2) || continue
  oldest=$(printf '%s\n' "$CARGO_MINIMUM" "$version" | sort -V | head -n 1)
  if [ -n "$version" ] && [ "$oldest" = "$CARGO_MINIMUM" ]; then echo "$cargo"; exit 0; fi
done
exit 1
