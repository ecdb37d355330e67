"""Times `aerie prepare` against the Python way to tokenise conversations, in one run on one machine.

Both read the same rows (the quickstart's prompts with made-up answers of realistic length), render SmolLM2's chat
template and tokenise; aerie also finds the assistant's tokens, counts and writes shards. Python uses transformers'
apply_chat_template on the whole list and the tokenizers library's own threads.

usage: .venv/bin/python scripts/benchmark_prepare.py [ROWS, default 20000]
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
PROMPTS = ROOT / "configs/quickstart/train_prompts.jsonl"


def make_rows(count):
    prompts = [json.loads(line)["conversations"][0]["content"] for line in PROMPTS.read_text().splitlines()]
    sentences = [s.strip() + "." for p in prompts for s in p.split(".") if s.strip()]
    draw = random.Random(0)
    return [{"id": str(i), "conversations": [{"role": "user", "content": prompts[i % len(prompts)]},
                                             {"role": "assistant", "content": " ".join(draw.choices(sentences, k=draw.randint(3, 12)))}]}
            for i in range(count)]


def time_aerie(rows, directory, threads):
    data = directory / "rows.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    config = directory / "run.yaml"
    config.write_text(f"target: {{path: {MODEL}}}\ndata: {{train: [{data}]}}\noutput: {{dir: {directory}/run-{threads}}}\n")
    start = time.perf_counter()
    subprocess.run([ROOT / "build/release/aerie", "prepare", "--config", config, "--threads", str(threads)], check=True,
                   stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def time_python(rows):
    from transformers import AutoTokenizer  # imported here: not part of the time

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    start = time.perf_counter()
    encoded = tokenizer.apply_chat_template([r["conversations"] for r in rows], return_dict=True)
    return time.perf_counter() - start, sum(map(len, encoded["input_ids"]))


def main():
    rows = make_rows(int(sys.argv[1]) if len(sys.argv) > 1 else 20000)
    threads = len(os.sched_getaffinity(0))
    python, tokens = time_python(rows)
    print(f"{len(rows)} rows, {tokens} tokens")
    print(f"python, {threads} threads: {python:6.2f} s, {tokens / python / 1e3:7.0f} k tokens/s")
    with tempfile.TemporaryDirectory() as directory:
        for count in sorted({1, threads}):
            seconds = time_aerie(rows, Path(directory), count)
            print(f"aerie, {count} threads:  {seconds:6.2f} s, {tokens / seconds / 1e3:7.0f} k tokens/s ({python / seconds:.2f} x python), start-up included")


if __name__ == "__main__":
    main()
