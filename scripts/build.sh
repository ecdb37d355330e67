#!/usr/bin/env bash
# Set-up, configuration and build of build/release/aerie. Safe to run again: only what changed is done.
# usage: scripts/build.sh [CMAKE TARGET...]     default: everything
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset release
targets=()
for target in "$@"; do targets+=(--target "$target"); done
cmake --build --preset release -j "$(nproc)" "${targets[@]}"
