"""What another server makes of a draft that `aerie export` wrote, beside our own engine: the quickstart's benchmark
questions, greedily, with the draft and without it."""
import json
import os
import subprocess
import sys
import unittest
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("AERIE", ROOT / "build/release/aerie")).resolve()
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
QUESTIONS = ROOT / "configs/quickstart/bench_prompts.jsonl"
TOLERANCE = 0.03  # of the acceptance length


@dataclass
class Served:
    """Answers, one a question, and tokens a verification step; the first token of an answer comes from the prompt."""
    answers: list[list[int]]
    acceptance: float = 1.0


def aerie(*arguments) -> None:
    done = subprocess.run([PROGRAM, *map(str, arguments)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def questions(limit: int) -> list[dict]:
    return [json.loads(line) for line in QUESTIONS.read_text().splitlines()][:limit]


def prompt_ids(rows: list[dict]) -> list[list[int]]:
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    return [list(tokenizer.apply_chat_template(row["conversations"], add_generation_prompt=True, tokenize=True,
                                               return_dict=False)) for row in rows]


def ours(rows: list[dict], draft: Path, k: int, length: int, place: Path, dtype: str = "bfloat16") -> Served:
    prompts, out = place / "prompts.jsonl", place / "ours.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out.unlink(missing_ok=True)
    aerie("generate", "--target", MODEL, "--draft", draft, "--input", prompts, "--output", out,
          "--draft-tokens", k, "--max-new-tokens", length, "--concurrency", 1, "--dtype", dtype)
    made = [json.loads(line) for line in out.read_text().splitlines()]
    tokens = [len(row["tokens"]) - 1 for row in made]
    steps = sum(count / row["acceptance_length"] for count, row in zip(tokens, made))
    return Served([row["tokens"] for row in made], sum(tokens) / steps)


def compare(server: str, plain: Served, drafted: Served, own: Served) -> None:
    """Fails unless the server's outputs with the draft are those without it and its acceptance is ours. Servers multiply
    one row and several rows by different kernels: a near tie may fall the other way, rarely."""
    test, count = unittest.TestCase(), len(plain.answers)
    differing = [i for i, pair in enumerate(zip(plain.answers, drafted.answers)) if pair[0] != pair[1]]
    same = sum(mine == theirs for mine, theirs in zip(own.answers, drafted.answers))
    print(f"acceptance {drafted.acceptance:.3f} in {server}, {own.acceptance:.3f} here; {same} of {count} answers are the "
          f"same in both, {count - len(differing)} the same as {server}'s without the draft", file=sys.stderr)
    test.assertLessEqual(len(differing), max(1, count // 8), f"prompts {differing} differ from the target alone")
    test.assertLess(abs(drafted.acceptance / own.acceptance - 1), TOLERANCE)


def check_prepared(draft: Path) -> None:
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    assert draft.exists(), f"{draft} is missing: scripts/quickstart.sh trains one"
