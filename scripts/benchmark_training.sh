#!/usr/bin/env bash
# Training speed of this machine: ours (bf16, online) against a plain fp32 PyTorch form of the same step, in one run, on
# rows of GSM8K's lengths (60 % supervised). Prints a table and writes OUTPUT/training.json. Then the loss part alone, and a
# step of packs of 2,048 and 8,192 tokens beside its matrix products.
# usage: scripts/benchmark_training.sh [OUTPUT]        OUTPUT: runs/benchmark-training by default; about 4 minutes
set -euo pipefail
cd "$(dirname "$0")/.."

output=${1:-runs/benchmark-training} target=models/SmolLM2-135M-Instruct
[ -x build/release/aerie ] || { echo "build/release/aerie is missing: run scripts/build.sh first" >&2; exit 1; }
[ -d "$target" ] || { echo "$target is missing: run scripts/fetch_smollm2.sh first" >&2; exit 1; }

rm -rf "$output"
mkdir -p "$output"
.venv/bin/python scripts/benchmark_training.py rows "$output/rows.jsonl"
cat > "$output/run.yaml" <<YAML
target: {path: $target}
draft: {vocab_size: 8192}
data: {train: [$output/rows.jsonl]}
train: {unroll: 7, depth_keep: 1, pack_tokens: 2048, max_steps: 8, checkpoint_every: 0}
output: {dir: $output/run}
YAML
build/release/aerie prepare --config "$output/run.yaml"
build/release/aerie train --config "$output/run.yaml" --resume never 2>&1 | tee "$output/train.log" >&2
echo "the same in PyTorch, fp32 ..." >&2
.venv/bin/python scripts/training_reference.py "$target" "$output/rows.jsonl" > "$output/reference.json"
.venv/bin/python scripts/benchmark_training.py report "$output"
cmake --build build/release --target benchmark_training_kernels benchmark_training_step >&2
build/release/benchmark_training_kernels | grep '^loss part'
for tokens in 2048 8192; do
  build/release/benchmark_training_step "$tokens" 3 | tail -n +2
done
