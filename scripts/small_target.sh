#!/usr/bin/env bash
# A draft for a target that sees or hears, from nothing: trains a small target (reader: rendered lines of text;
# recogniser: synthesised speech), lets it answer, trains a draft on its answers and measures it on what neither has met.
# Run again, it goes on where it stopped.
# usage: scripts/small_target.sh reader|recogniser      about 20 minutes on one core, after scripts/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:-}
case $name in reader | recogniser) ;; *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;; esac
run_dir=runs/$name config=configs/$name.yaml
aerie() { printf '\033[2m$ aerie %s\033[0m\n' "$*"; build/release/aerie "$@"; }

[ -d $run_dir/target ] || .venv/bin/python scripts/train_$name.py --output $run_dir
aerie resample --config $config --input $run_dir/train_prompts.jsonl --output $run_dir/answers.jsonl
aerie resample --config $config --input $run_dir/heldout_prompts.jsonl --output $run_dir/heldout_answers.jsonl
python3 scripts/answer_errors.py $run_dir/heldout_prompts.jsonl $run_dir/heldout_answers.jsonl
aerie prepare --config $config
aerie train --config $config
aerie export --checkpoint $run_dir/best --output $run_dir/draft
aerie bench --config $config --draft $run_dir/draft --input $run_dir/bench_prompts.jsonl --output $run_dir/bench \
  --draft-tokens 2,4,6 --repeats 3
python3 scripts/results_table.py $run_dir/bench/bench.json
