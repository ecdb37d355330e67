#!/usr/bin/env bash
# What a second process costs: two ranks of one thread against one rank of two threads, the same steps of the
# quickstart's shape (SmolLM2, packs of 512), online. The runs take turns; prints a table and OUTPUT/ranks.json.
# usage: scripts/benchmark_ranks.sh [OUTPUT]        OUTPUT: runs/benchmark-ranks by default; about 2 minutes
# STEPS=12 ROUNDS=2: steps of a run, runs of each kind
set -euo pipefail
cd "$(dirname "$0")/.."

output=${1:-runs/benchmark-ranks} target=models/SmolLM2-135M-Instruct steps=${STEPS:-12} rounds=${ROUNDS:-2}
[ -x build/release/aerie ] || { echo "build/release/aerie is missing: run scripts/build.sh first" >&2; exit 1; }
[ -d "$target" ] || { echo "$target is missing: run scripts/fetch_smollm2.sh first" >&2; exit 1; }

rm -rf "$output"
mkdir -p "$output"
.venv/bin/python scripts/benchmark_training.py rows "$output/rows.jsonl"
cat > "$output/run.yaml" <<YAML
target: {path: $target}
draft: {vocab_size: 4096}
data: {train: [$output/rows.jsonl], cache: $output/data}
train: {unroll: 4, pack_tokens: 512, max_steps: $steps, checkpoint_every: 0}
output: {dir: $output/unused}
YAML
build/release/aerie prepare --config "$output/run.yaml" --quiet

# train NAME LAUNCHER... -- FLAG...
train() {
  local name=$1 launcher=()
  shift
  while [ "$1" != -- ]; do launcher+=("$1"); shift; done
  shift
  "${launcher[@]}" build/release/aerie train --config "$output/run.yaml" --quiet --set "output.dir=$output/$name" "$@" \
    2>> "$output/train.log" || { tail "$output/train.log" >&2; exit 1; }
}
two_ranks=(.venv/bin/torchrun --standalone --no-python --nproc-per-node 2)
for round in $(seq "$rounds"); do  # a step takes two packs in either form
  train "one-$round" -- --threads 2 --set train.accumulate=2
  train "two-$round" "${two_ranks[@]}" --
  train "zero-$round" "${two_ranks[@]}" -- --set train.zero=1
done

python3 - "$output" <<'PYTHON'
import json
import sys
from pathlib import Path

output = Path(sys.argv[1])
WARM_UP = 2  # steps


def measure(kind):
    steps = [s for path in sorted(output.glob(f"{kind}-*/metrics.jsonl"))
             for s in list(map(json.loads, path.read_text().splitlines()))[WARM_UP:] if s["kind"] == "train"]
    seconds = sum(sum(s["step_seconds"].values()) for s in steps)
    tokens = sum(s["tokens_per_second"] * sum(s["step_seconds"].values()) for s in steps)
    return {"tokens_per_s": tokens / seconds, "waiting": sum(s["step_seconds"]["wait"] for s in steps) / seconds,
            "peak_mb": steps[-1]["peak_memory_bytes"] / 1e6, "loss": steps[-1]["loss"]}


kinds = {"one": "1 rank, 2 threads, 2 packs", "two": "2 ranks, 1 thread, 1 pack each", "zero": "the same, train.zero: 1"}
result = {kind: measure(kind) for kind in kinds}
(output / "ranks.json").write_text(json.dumps(result, indent=2))
print(f"{'':34}{'tokens/s':>10}{'ratio':>8}{'waiting':>9}{'MB a rank':>11}{'last loss':>11}")
for kind, name in kinds.items():
    r = result[kind]
    print(f"{name:34}{r['tokens_per_s']:10.0f}{r['tokens_per_s'] / result['one']['tokens_per_s']:8.2f}"
          f"{r['waiting']:9.1%}{r['peak_mb']:11.0f}{r['loss']:11.4f}")
PYTHON
