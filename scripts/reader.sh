#!/usr/bin/env bash
# A draft for a vision-language target, from nothing: trains the small reader of rendered lines, lets it answer, trains a
# draft on its answers and measures it on lines that neither has seen. Run again, it goes on where it stopped.
# usage: scripts/reader.sh      about 20 minutes on two cores, after scripts/build.sh
set -euo pipefail
cd "$(dirname "$0")/.."

run_dir=runs/reader config=configs/reader.yaml
aerie() { printf '\033[2m$ aerie %s\033[0m\n' "$*"; build/release/aerie "$@"; }

[ -f $run_dir/target/model.safetensors ] || .venv/bin/python scripts/train_reader.py --output $run_dir
for part in train heldout; do
  answers=$run_dir/answers.jsonl
  [ $part = train ] || answers=$run_dir/heldout_answers.jsonl
  aerie resample --config $config --input $run_dir/${part}_prompts.jsonl --output $answers
done
aerie prepare --config $config
aerie train --config $config
aerie export --checkpoint $run_dir/best --output $run_dir/draft
aerie bench --config $config --draft $run_dir/draft --input $run_dir/bench_prompts.jsonl --output $run_dir/bench \
  --draft-tokens 2,4 --max-new-tokens 40
python3 scripts/results_table.py $run_dir/bench/bench.json
