#!/usr/bin/env bash
# Fails on a C++ or CUDA file of ours that clang-format would change. `--fix` changes them instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t files < <(find main.cpp cli common configs pages kernels data target_models draft_models trainer decoding tests cmake \
  \( -name target -o -name build \) -prune -o -regex '.*\.\(h\|cpp\|cu\|cuh\)' -print)
if [ "${1:-}" = --fix ]; then exec clang-format -i "${files[@]}"; fi
clang-format --dry-run --Werror "${files[@]}"
echo "${#files[@]} files: formatted"
