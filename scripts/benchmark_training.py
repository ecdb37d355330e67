#!/usr/bin/env python3
"""The two ends of scripts/benchmark_training.sh: `rows FILE` makes the data, `report DIR` reads the results."""
import json
import os
import random
import re
import sys
import time
from pathlib import Path

K, DRAFT_VOCAB = 7, 8192


def make_rows(path):
    """Token ids are random, lengths are those of GSM8K questions with SmolLM2's answers: the cost of a step is in them."""
    rng = random.Random(0)
    with open(path, "w") as out:
        for index in range(120):
            prompt, answer = rng.randint(60, 120), rng.randint(90, 180)
            row = {"id": f"row-{index}", "input_ids": [rng.randint(10, 49000) for _ in range(prompt + answer)],
                   "loss_mask": [0] * prompt + [1] * answer}
            out.write(json.dumps(row) + "\n")


def draft_flops_per_row(config, prompt, answer):
    """Multiply-adds times two of one document, forward and backward, row-sparse: what has to be computed."""
    c, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    dim = config.get("head_dim") or c // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    depths = [max(0, answer - 1 - k) for k in range(K)]
    base = prompt + answer - 2
    per_pair = 2 * c * queries + queries * c + 3 * c * inner + c * DRAFT_VOCAB
    trained = base * 3 * c * c + base * 2 * c * 2 * keys + sum(depths) * per_pair + sum(depths[1:]) * 2 * c * 2 * keys
    return 2 * (3 * trained + (answer - 1) * c * vocab)  # the teacher's head runs forward only


def gemm_peak():
    """bf16 matrix product of this machine through PyTorch, FLOP/s."""
    import torch
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    a, b = torch.randn(2048, 2048).bfloat16(), torch.randn(2048, 2048).bfloat16()
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


def ready_seconds(log):
    """From the command to the first step, as it says itself."""
    return float(re.search(r"ready after ([0-9.]+) s", log.read_text()).group(1))


def report(directory):
    directory = Path(directory)
    steps = [json.loads(line) for line in open(directory / "run/metrics.jsonl")]
    steps = [s for s in steps if s["kind"] == "train"]
    first, steps = steps[0], steps[1:]  # the first step warms up
    split = {part: sum(s["step_seconds"][part] for s in steps) for part in steps[0]["step_seconds"]}
    tokens = sum(s["tokens_per_second"] * sum(s["step_seconds"].values()) for s in steps)
    seconds = sum(split.values())
    reference = json.load(open(directory / "reference.json"))
    config = json.load(open("models/SmolLM2-135M-Instruct/config.json"))
    rows = [json.loads(line)["loss_mask"] for line in open(directory / "rows.jsonl")]
    flops = sum(draft_flops_per_row(config, r.count(0), r.count(1)) for r in rows) / sum(len(r) for r in rows)
    rate = flops * tokens / (seconds - split["source"])
    peak = gemm_peak()
    result = {
        "draft_tokens_per_s": tokens / (seconds - split["source"]), "online_tokens_per_s": tokens / seconds,
        "reference": reference,
        "draft_ratio": tokens / (seconds - split["source"]) / reference["draft_tokens_per_s"],
        "online_ratio": tokens / seconds / reference["online_tokens_per_s"],
        "first_step_seconds": sum(first["step_seconds"].values()),
        "peak_rss_mb": steps[-1]["peak_memory_bytes"] / 1e6,
        "time_split": {part: value / seconds for part, value in split.items()},
        "draft_gflops": rate / 1e9, "gemm_peak_gflops": peak / 1e9, "fraction_of_peak": rate / peak,
    }
    json.dump(result, open(directory / "training.json", "w"), indent=2)
    print(f"{'':34}{'ours':>10}{'PyTorch fp32':>14}{'ratio':>8}")
    for name, key in (("draft part, tokens/s", "draft"), ("with the target's forward", "online")):
        print(f"{name:34}{result[key + '_tokens_per_s']:10.0f}{reference[key + '_tokens_per_s']:14.0f}"
              f"{result[key + '_ratio']:8.1f}")
    print(f"{'peak memory, MB':34}{result['peak_rss_mb']:10.0f}{reference['peak_rss_mb']:14.0f}")
    print(f"ready to step after {ready_seconds(directory / 'train.log'):.2f} s; the first step took "
          f"{result['first_step_seconds']:.2f} s")
    print("time: " + ", ".join(f"{part} {share:.0%}" for part, share in result["time_split"].items()))
    print(f"draft part: {result['draft_gflops']:.0f} GFLOP/s of needed work, {result['fraction_of_peak']:.0%} of the "
          f"bf16 GEMM peak ({result['gemm_peak_gflops']:.0f})")


if sys.argv[1] == "rows":
    make_rows(sys.argv[2])
else:
    report(sys.argv[2])
