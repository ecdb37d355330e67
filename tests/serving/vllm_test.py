"""A draft that `aerie export --format vllm` wrote, served by vLLM's CPU build: the outputs are those of the target alone,
and as many guesses are accepted as in our own engine. In float32 on both sides: in bf16 vLLM's step of several rows rounds
otherwise than its step of one, and every second of its own answers changes with the draft (4 of 8, measured).

usage: vllm_test.py [--python .venv-vllm/bin/python] [--draft runs/quickstart/draft] [--draft-tokens K] [--limit N]
                    [--length N] [--threads N]
Wants scripts/setup_vllm.sh, and a trained draft of SmolLM2 as scripts/quickstart.sh leaves it.
"""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from served_draft import MODEL, ROOT, Served, aerie, check_prepared, compare, ours, prompt_ids, questions

RUNS = Path(__file__).with_name("vllm_runs.py")


def served(given: argparse.Namespace, prompts: list[list[int]], draft: Path | None, place: Path) -> Served:
    job, result = place / "job.json", place / "result.json"
    job.write_text(json.dumps({
        "model": str(MODEL), "dtype": "float32", "draft": str(draft) if draft else None, "draft_tokens": given.draft_tokens,
        "compiled": False, "threads": given.threads, "ignore_eos": False,
        "runs": [{"prompts": [ids], "length": given.length} for ids in prompts]}))
    done = subprocess.run([given.python, RUNS, job, result], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = json.loads(result.read_text())["runs"]
    steps = sum(run["steps"] for run in runs)
    return Served([answer for run in runs for answer in run["answers"]],
                  1 + sum(run["accepted"] for run in runs) / steps if steps else 1.0)


def measure(given: argparse.Namespace, place: Path) -> None:
    draft = place / "draft"
    aerie("export", "--checkpoint", given.draft, "--output", draft, "--format", "vllm")
    aerie("export", "--check", draft)
    rows = questions(given.limit)
    prompts = prompt_ids(rows)
    plain, drafted = served(given, prompts, None, place), served(given, prompts, draft, place)
    own = ours(rows, given.draft, given.draft_tokens, given.length, place, dtype="float32")
    compare("vLLM", plain, drafted, own)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-vllm/bin/python")
    parser.add_argument("--draft", type=Path, default=ROOT / "runs/quickstart/draft")
    parser.add_argument("--draft-tokens", type=int, default=4)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--length", type=int, default=160)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    check_prepared(options.draft)
    assert options.python.exists(), f"{options.python} is missing: scripts/setup_vllm.sh"
    with tempfile.TemporaryDirectory(prefix="aerie-vllm-") as directory:
        measure(options, Path(directory))
