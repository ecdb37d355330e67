"""A draft that `aerie export --format gguf` wrote, served by a real llama.cpp: the outputs are those of the target alone,
and as many guesses are accepted as in our own engine.

usage: llama_cpp_test.py [--draft runs/quickstart/draft] [--draft-tokens K] [--limit N] [--length N] [--threads N]
Wants a trained draft of SmolLM2, as scripts/quickstart.sh leaves it; asks the quickstart's benchmark questions. Small
samples scatter: below 12 questions of 160 tokens the acceptances differ by more than they may.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from transformers import AutoTokenizer

import target_gguf
from llama_cpp import Server

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("AERIE", ROOT / "build/release/aerie")).resolve()
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
QUESTIONS = ROOT / "configs/quickstart/bench_prompts.jsonl"
TOLERANCE = 0.03  # of the acceptance length


def aerie(*arguments) -> None:
    done = subprocess.run([PROGRAM, *map(str, arguments)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def acceptance(tokens: int, prompts: int, accepted: int) -> float:
    """Tokens a verification step; the first token of every answer comes from the prompt's own pass."""
    return (tokens - prompts) / (tokens - prompts - accepted)


class Case:
    """Prompts, a draft in both forms, and what each engine makes of them."""

    def __init__(self, place: Path, target: Path, draft: Path, rows: list[dict], k: int, length: int, threads: int):
        self.place, self.target, self.k, self.length, self.threads = place, target, k, length, threads
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self.ids = [list(tokenizer.apply_chat_template(row["conversations"], add_generation_prompt=True, tokenize=True,
                                                       return_dict=False)) for row in rows]
        self.draft, self.gguf = draft, place / "draft.gguf"
        aerie("export", "--checkpoint", draft, "--output", self.gguf, "--format", "gguf", "--target-gguf", target)
        aerie("export", "--check", self.gguf)
        self.prompts = place / "prompts.jsonl"
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def ours(self) -> list[dict]:
        out = self.place / "ours.jsonl"
        out.unlink(missing_ok=True)
        aerie("generate", "--target", MODEL, "--draft", self.draft, "--input", self.prompts, "--output", out,
              "--draft-tokens", self.k, "--max-new-tokens", self.length, "--concurrency", 1)
        return [json.loads(line) for line in out.read_text().splitlines()]

    def theirs(self, draft: Path | None) -> list:
        server = Server(self.target, draft, self.k, self.threads)
        return [server.complete(ids, self.length) for ids in self.ids]


def compare(test: unittest.TestCase, case: Case) -> None:
    plain, drafted, ours = case.theirs(None), case.theirs(case.gguf), case.ours()
    # llama.cpp multiplies one row and several rows by different kernels: a near tie may fall the other way, rarely.
    differing = [i for i, (alone, speculative) in enumerate(zip(plain, drafted)) if alone.tokens != speculative.tokens]
    test.assertLessEqual(len(differing), max(1, len(plain) // 8), f"prompts {differing} differ from the target alone")
    tokens, prompts = sum(len(answer.tokens) for answer in drafted), len(drafted)
    theirs = acceptance(tokens, prompts, sum(answer.accepted for answer in drafted))
    steps = sum((len(row["tokens"]) - 1) / row["acceptance_length"] for row in ours)
    own = sum(len(row["tokens"]) - 1 for row in ours) / steps
    same = sum(row["tokens"] == answer.tokens for row, answer in zip(ours, drafted))
    print(f"k {case.k}: acceptance {theirs:.3f} in llama.cpp ({tokens} tokens), {own:.3f} here; "
          f"{same} of {prompts} answers are the same in both, {prompts - len(differing)} the same as llama.cpp's alone", file=sys.stderr)
    test.assertLess(abs(theirs / own - 1), TOLERANCE)


def measure(arguments: argparse.Namespace) -> None:
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()][: arguments.limit]
    with tempfile.TemporaryDirectory(prefix="aerie-llama-") as directory:
        target = Path(directory) / "target.gguf"
        target_gguf.convert(MODEL, target)
        case = Case(Path(directory), target, arguments.draft, rows, arguments.draft_tokens, arguments.length,
                    arguments.threads)
        compare(unittest.TestCase(), case)


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    parser = argparse.ArgumentParser()
    parser.add_argument("--draft", type=Path, default=ROOT / "runs/quickstart/draft")
    parser.add_argument("--draft-tokens", type=int, default=4)
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--length", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    assert given.draft.exists(), f"{given.draft} is missing: scripts/quickstart.sh trains one"
    measure(given)
