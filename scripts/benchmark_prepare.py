"""Times `aerie prepare` against the Python way to prepare conversations, on the same rows, one after the other.

Python does what trainers of drafts commonly do: the `datasets` library reads the JSON lines and maps a function over
them on every core, which renders the chat template, tokenises with offsets, finds the assistant's text by a pattern
and marks its tokens; then the supervised tokens are counted for the draft's vocabulary. Aerie does the same to token
shards and a vocabulary, start-up included. Both have every core. The rows are real prompts of the repository with
answers put together from their sentences, or those of a file.

usage: .venv/bin/python scripts/benchmark_prepare.py [--rows 20000] [--input chats.jsonl] [--once aerie|python FILE]
"""
import argparse
import importlib.util
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
PROMPTS = ROOT / "configs/quickstart/train_prompts.jsonl"
ASSISTANT = re.compile(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", re.S)


def made_up_rows(count):
    prompts = [json.loads(line)["conversations"][0]["content"] for line in PROMPTS.read_text().splitlines()]
    sentences = [s.strip() + "." for p in prompts for s in p.split(".") if s.strip()]
    draw = random.Random(0)
    for i in range(count):
        answer = " ".join(draw.choices(sentences, k=draw.randint(3, 12)))
        yield {"id": str(i), "conversations": [{"role": "user", "content": prompts[i % len(prompts)]},
                                               {"role": "assistant", "content": answer}]}


def rows_of(path, count):
    """The file's rows over and over, each time with one word more at its begin: no row is another's copy."""
    with open(path, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    names = {"human": "user", "gpt": "assistant"}
    for i in range(count):
        turns = [{"role": names.get(role := turn.get("role") or turn["from"], role), "content": turn.get("content") or turn["value"]}
                 for turn in rows[i % len(rows)]["conversations"]]
        turns[0]["content"] = f"{i // len(rows)} " + turns[0]["content"]
        yield {"id": str(i), "conversations": turns}


def run_python(data):
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)

    def encode(batch):
        out = {"input_ids": [], "loss_mask": []}
        for turns in batch["conversations"]:
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
            spans, mask, at = [m.span(1) for m in ASSISTANT.finditer(text)], [], 0
            for begin, end in encoding["offset_mapping"]:
                while at < len(spans) and begin >= spans[at][1]:
                    at += 1
                mask.append(int(at < len(spans) and end > spans[at][0]))
            out["input_ids"].append(encoding["input_ids"])
            out["loss_mask"].append(mask)
        return out

    start = time.perf_counter()  # imports and the tokenizer are not part of the time
    with tempfile.TemporaryDirectory() as cache:
        rows = load_dataset("json", data_files=str(data), split="train", cache_dir=cache)
        rows = rows.map(encode, batched=True, remove_columns=rows.column_names, num_proc=len(os.sched_getaffinity(0)))
        tokens, counts = 0, Counter()
        for row in rows:
            tokens += len(row["input_ids"])
            counts.update(i for i, m in zip(row["input_ids"], row["loss_mask"]) if m)
        counts.most_common(8192)
    return {"seconds": time.perf_counter() - start, "tokens": tokens, "supervised": sum(counts.values())}


def run_aerie(data):
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "run.yaml"
        config.write_text(f"target: {{path: {MODEL}}}\ndata: {{train: [{data}], max_length: 100000}}\n"
                          f"output: {{dir: {directory}/run}}\n")
        start = time.perf_counter()
        subprocess.run([ROOT / "build/release/aerie", "prepare", "--config", config], check=True, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        report = json.loads((Path(directory) / "run/data/train/report.json").read_text())
    return {"seconds": seconds, "tokens": report["tokens"], "supervised": report["supervised"],
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}


RUNS = {"python": run_python, "aerie": run_aerie}


def once(which, data):
    """In a process of its own, so that neither sees the other's memory or threads."""
    done = subprocess.run([sys.executable, __file__, "--once", which, str(data)], check=True, text=True,
                          stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--once", nargs=2, metavar=("WHICH", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("datasets") is None:
        version = re.search(r"DATASETS_VERSION=(.*)", (ROOT / "scripts/versions.env").read_text())[1]
        sys.exit(f"the Python side is missing: .venv/bin/python -m pip install datasets=={version}")
    if given.once:
        print(json.dumps(RUNS[given.once[0]](Path(given.once[1]))))
        return
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "rows.jsonl"
        rows = rows_of(given.input, given.rows) if given.input else made_up_rows(given.rows)
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{given.rows} rows, {data.stat().st_size / 1e6:.1f} MB, {len(os.sched_getaffinity(0))} cores", flush=True)
        once("aerie", data)  # the file is in memory for both
        results = {name: once(name, data) for name in ("aerie", "python")}
    for name, result in results.items():
        more = f", at most {result['peak_memory_mb']:.0f} MB resident" if "peak_memory_mb" in result else ""
        print(f"{name:7}{result['seconds']:8.2f} s {result['tokens'] / result['seconds'] / 1e6:8.2f} M tokens/s, "
              f"{result['tokens']} tokens, {result['supervised']} supervised{more}")
    print(f"aerie is {results['python']['seconds'] / results['aerie']['seconds']:.1f} x as fast")


if __name__ == "__main__":
    main()
