#!/bin/bash
# What decoding costs on this machine, beside transformers' generate and, where they are installed, llama.cpp (`pip install
# xllamacpp` in .venv) and vLLM's CPU build (scripts/setup_vllm.sh; it compiles for some minutes), in the same run, all in
# bf16: decode at batch 1 against the bandwidth bound, batches, prompts, one speculative step against one plain step,
# start-up.
#   scripts/benchmark_decoding.sh [--alone]
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/release
model=models/SmolLM2-135M-Instruct
[ -e $model/model.safetensors ] || { echo "$model is missing: run scripts/fetch_smollm2.sh first" >&2; exit 1; }
cmake --build $build --target benchmark_decoding aerie >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

$build/benchmark_decoding $model > "$work/steps.json"

head -1 tests/data/prompts_40.jsonl > "$work/one.jsonl"
TIMEFORMAT=%R
for i in 1 2 3; do
  { time $build/aerie generate --target $model --input "$work/one.jsonl" --output "$work/out.jsonl" \
    --max-new-tokens 1 2> /dev/null; } 2>> "$work/startup"
done

for sequences in 1 16; do  # the second with as many prompts a sequence, so that neither is over in a moment
  $build/aerie resample --target $model --input configs/quickstart/train_prompts.jsonl --output "$work/answers-$sequences.jsonl" \
    --limit $((6 * sequences)) --max-new-tokens 160 --concurrency $sequences --json --quiet > "$work/resample-$sequences.json"
done

if [ "${1:-}" != --alone ]; then
  .venv/bin/python - $model > "$work/transformers.json" <<'PYTHON'
import json, sys, time, torch
from transformers import AutoModelForCausalLM
torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()

def run(batch, prompt, new):
    ids = torch.randint(1000, 40000, (batch, prompt))
    start = time.perf_counter()
    with torch.inference_mode():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
                       do_sample=False, pad_token_id=2)
    return time.perf_counter() - start

run(1, 16, 4)
out = {}
for batch in (1, 16):
    short, long = run(batch, 128, 1), run(batch, 128, 33)
    out[f"batch_{batch}"] = batch * 32 / (long - short)
out["prompts"] = 2048 / run(4, 512, 1)
print(json.dumps(out))
PYTHON
  if .venv/bin/python -c 'import xllamacpp' 2> /dev/null; then
    PYTHONPATH=tests/serving .venv/bin/python - $model "$work" > "$work/llama.json" <<'PYTHON'
import json, os, random, sys
from pathlib import Path
import target_gguf
from llama_cpp import Server

target = Path(sys.argv[2]) / "target.gguf"
target_gguf.convert(Path(sys.argv[1]), target)
server = Server(target, threads=len(os.sched_getaffinity(0)))
ids = lambda count: [random.randint(1000, 40000) for _ in range(count)]
server.complete(ids(16), 4)
json.dump({"batch_1": max(server.complete(ids(128), 32).decode_rate for _ in range(3)),
           "prompts": max(server.complete(ids(512), 1).prompt_rate for _ in range(3))}, open(1, "w"))
PYTHON
  fi
  if [ -x .venv-vllm/bin/python ]; then
    .venv/bin/python - $model "$work" <<'PYTHON'
import json, os, random, subprocess, sys
model, work = sys.argv[1:]
ids = lambda count: [random.randint(1000, 40000) for _ in range(count)]
part = lambda batch, prompt, length: {"prompts": [ids(prompt) for _ in range(batch)], "length": length}
batches = (1, 8, 16)
runs = [part(1, 16, 4), part(4, 512, 1)] + [part(batch, 128, length) for batch in batches for length in (1, 33)]
json.dump({"model": model, "dtype": "bfloat16", "draft": None, "draft_tokens": 0, "compiled": True, "ignore_eos": True,
           "threads": len(os.sched_getaffinity(0)), "runs": runs}, open(f"{work}/job.json", "w"))
subprocess.run([".venv-vllm/bin/python", "tests/serving/vllm_runs.py", f"{work}/job.json", f"{work}/vllm_runs.json"],
               check=True, stdout=subprocess.DEVNULL, stderr=open(f"{work}/vllm.log", "w"))
seconds = [run["seconds"] for run in json.load(open(f"{work}/vllm_runs.json"))["runs"]]
rates = {f"batch_{batch}": batch * 32 / (seconds[3 + 2 * i] - seconds[2 + 2 * i]) for i, batch in enumerate(batches)}
json.dump({**rates, "prompts": 2048 / seconds[1]}, open(f"{work}/vllm.json", "w"))
PYTHON
  fi
fi

.venv/bin/python - "$work" <<'PYTHON'
import json, os, statistics, sys
work = sys.argv[1]
ours = json.load(open(f"{work}/steps.json"))
startup = statistics.median(float(x) for x in open(f"{work}/startup"))
peers = {name: json.load(open(f"{work}/{file}.json")) for name, file in
         (("transformers", "transformers"), ("llama.cpp", "llama"), ("vLLM", "vllm")) if os.path.exists(f"{work}/{file}.json")}
rows = ours["autoregressive"]
one = rows[0]
bound = ours["read_gb_s"] * 1e3 / ours["weight_mb"]
beside = lambda value, key: "".join(f"   {value / peer[key]:.1f} x {name} ({peer[key]:.0f})"
                                    for name, peer in peers.items() if key in peer)
print(f"memory read                {ours['read_gb_s']:.1f} GB/s, weights {ours['weight_mb']:.0f} MB: bound {bound:.0f} tokens/s")
print(f"decode, batch 1            {one['tokens_per_second']:.1f} tokens/s, {one['tokens_per_second'] / bound:.0%} of the bound"
      + beside(one["tokens_per_second"], "batch_1"))
print(f"outside the forward        {one['overhead_ms']:.3f} ms a step")
for row in rows[1:]:
    print(f"decode, batch {row['sequences']:<12} {row['tokens_per_second']:.0f} tokens/s, "
          f"{row['tokens_per_second'] / one['tokens_per_second']:.1f} x batch 1; a step costs {row['step_ms'] / one['step_ms']:.2f}"
          + beside(row["tokens_per_second"], f"batch_{row['sequences']}"))
for row in ours["speculative"]:
    target = row["step_ms"] - row["draft_ms"]
    print(f"speculative step, k = {row['draft_tokens']}     {row['step_ms'] / one['step_ms']:.2f} plain steps "
          f"({target / one['step_ms']:.2f} target and verification, {row['draft_ms']:.2f} ms draft)")
for row in ours["prompts"]:
    print(f"prompts of {row['tokens']:<15} {row['tokens_per_second']:.0f} tokens/s"
          + (beside(row["tokens_per_second"], "prompts") if row["tokens"] == 512 else ""))
print(f"start-up to first token    {startup:.2f} s")
one_by_one, batched = (json.load(open(f"{work}/resample-{n}.json"))["tokens_per_second"] for n in (1, 16))
print(f"aerie resample             {batched:.0f} tokens/s with 16 at a time, {batched / one_by_one:.1f} x one at a time, "
      f"prompts included")
PYTHON
