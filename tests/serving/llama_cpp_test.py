"""A draft that `aerie export --format gguf` wrote, served by a real llama.cpp: the outputs are those of the target alone,
and as many guesses are accepted as in our own engine. The target is f32 in both: in bf16 each rounds as it multiplies, and a
near tie falls one way or the other.

usage: llama_cpp_test.py [--draft runs/quickstart/draft] [--draft-tokens K] [--limit N] [--length N] [--threads N]
Wants a trained draft of SmolLM2, as scripts/quickstart.sh leaves it. Small samples scatter: below 12 questions of 160
tokens the acceptances differ by more than they may.
"""
import argparse
import tempfile
from pathlib import Path

import target_gguf
from llama_cpp import Server
from served_draft import MODEL, ROOT, Served, aerie, check_prepared, compare, ours, prompt_ids, questions


def served(server: Server, prompts: list[list[int]], length: int) -> Served:
    answers = [server.complete(ids, length) for ids in prompts]
    rest = sum(len(answer.tokens) - 1 for answer in answers)
    accepted = sum(answer.accepted for answer in answers)
    return Served([answer.tokens for answer in answers], rest / (rest - accepted))


def measure(given: argparse.Namespace, place: Path) -> None:
    target, draft = place / "target.gguf", place / "draft.gguf"
    target_gguf.convert(MODEL, target, wide=True)
    aerie("export", "--checkpoint", given.draft, "--output", draft, "--format", "gguf", "--target-gguf", target)
    aerie("export", "--check", draft)
    rows = questions(given.limit)
    prompts = prompt_ids(rows)
    plain = served(Server(target, threads=given.threads, wide=True), prompts, given.length)
    drafted = served(Server(target, draft, given.draft_tokens, given.threads, wide=True), prompts, given.length)
    own = ours(rows, given.draft, given.draft_tokens, given.length, place, "float32")
    compare("llama.cpp", plain, drafted, own)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--draft", type=Path, default=ROOT / "runs/quickstart/draft")
    parser.add_argument("--draft-tokens", type=int, default=4)
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--length", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    check_prepared(options.draft)
    with tempfile.TemporaryDirectory(prefix="aerie-llama-") as directory:
        measure(options, Path(directory))
