#!/usr/bin/env bash
# From a fresh machine to a proven draft: set-up, build, model, the target's own answers, training, export, benchmark on
# questions that were not trained on. Every step prints its command; run again, it goes on where it stopped.
# usage: scripts/quickstart.sh [--long]     about 15 minutes after the build on two cores; --long: about an hour
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m[quickstart]\033[0m %s\n' "$*"; }
run() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

config=configs/quickstart.yaml questions=configs/quickstart
run_dir=runs/quickstart train_prompts=600 settings=()
bench=(--draft-tokens 4 --max-new-tokens 160)
case "${1:-}" in
  "") ;;
  --long)
    run_dir=runs/quickstart-long train_prompts=2000 bench=(--draft-tokens 4,6)
    settings=(--set "output.dir=$run_dir" --set "data.train=$run_dir/answers.jsonl"
              --set "data.heldout=$run_dir/heldout_answers.jsonl" --set train.unroll=5 --set train.epochs=4 --set train.depth_keep=1
              --set train.pack_tokens=1024 --set optim.lr=1.5e-3 --set eval.every=300) ;;
  *) sed -n 4p "$0" | cut -c3- >&2; exit 2 ;;
esac
aerie() { run build/release/aerie "$@"; }
configured() { aerie "$1" --config "$config" "${settings[@]}" "${@:2}"; }

say "1/7 set-up and build"
scripts/build.sh aerie

say "2/7 the target model"
run scripts/fetch_smollm2.sh

say "3/7 $train_prompts questions, answered by the target itself"
mkdir -p "$run_dir"
configured resample --input $questions/train_prompts.jsonl --limit "$train_prompts" --output "$run_dir/answers.jsonl"
configured resample --input $questions/heldout_prompts.jsonl --output "$run_dir/heldout_answers.jsonl"

say "4/7 answers to tokens"
configured prepare

say "5/7 training"
configured train

say "6/7 export"
aerie export --checkpoint "$run_dir/best" --output "$run_dir/draft"
aerie export --check "$run_dir/draft"

say "7/7 benchmark on questions that were not trained on"
configured bench --draft "$run_dir/draft" --input $questions/bench_prompts.jsonl --output "$run_dir/bench" \
  "${bench[@]}"

say "results"
python3 scripts/results_table.py "$run_dir/bench/bench.json"
echo
echo "draft      $run_dir/draft      (as vLLM loads it; for SGLang: build/release/aerie export --checkpoint $run_dir/draft --format sglang --output DIR)"
echo "training   $run_dir/metrics.jsonl"
echo "benchmark  $run_dir/bench/report.html"
