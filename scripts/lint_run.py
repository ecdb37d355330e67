"""Runs clang-tidy on what the compiler compiles, several at a time: sources, or batches of them. What was clean is not
looked at again until it, a header of ours that it includes, or the checks change.

usage: lint_run.py DATABASE_DIRECTORY [--most N] [FILE...]      every source, or those that compile one of the files
"""
import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLANG_TIDY = ROOT / ".venv/bin/clang-tidy"  # the wheel: Debian's is four times as slow, as it checks LibTorch's headers too
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


@cache
def text_of(file: Path) -> str:
    return file.read_text()


def closure(file: Path) -> list[Path]:
    """The file and every header of ours that it includes, directly or not."""
    found, waiting = set(), [file]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            candidates = (place / name for name in INCLUDE.findall(text_of(current)) for place in (ROOT, current.parent))
            waiting += [path.resolve() for path in candidates if path.is_file()]
    return sorted(found)


def key_of(file: Path) -> str:
    parts = [ROOT / "scripts/versions.env", ROOT / ".clang-tidy", ROOT / "cmake/pch.h", *closure(file)]
    return hashlib.sha256("\0".join([str(file), *map(text_of, parts)]).encode()).hexdigest()


def lint(database: Path, file: Path) -> str | None:
    """What clang-tidy complains about; None where the file is clean."""
    stamp = database / "clean" / key_of(file)
    if stamp.exists():
        return None
    done = subprocess.run([CLANG_TIDY, "-p", database, "--quiet", "--warnings-as-errors=*", file],
                          text=True, capture_output=True)
    if done.returncode == 0:
        stamp.touch()
        return None
    return done.stdout or done.stderr


def units(database: Path, files: list[str]) -> list[Path]:
    """What the database compiles of our tree; with files, only what compiles one of them."""
    wanted = {Path(name).resolve() for name in files}
    entries = json.loads((database / "compile_commands.json").read_text())
    every = sorted({Path(entry["file"]) for entry in entries if "_pch.dir" not in entry["file"]})
    return [unit for unit in every if not wanted or not wanted.isdisjoint({unit, *included_sources(unit)})]


def included_sources(unit: Path) -> list[Path]:
    return [Path(name) for name in INCLUDE.findall(text_of(unit)) if name.endswith(".cpp")]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("--most", type=int, default=10**6)
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    (options.database / "clean").mkdir(exist_ok=True)
    todo = units(options.database, options.files)
    if len(todo) > options.most:
        print(f"clang-tidy: the first {options.most} of {len(todo)} batches; scripts/lint.sh checks all")
        todo = todo[:options.most]
    start, bad = time.monotonic(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for complaint in pool.map(lambda unit: lint(options.database, unit), todo):
            if complaint:
                bad += 1
                print(complaint, flush=True)
    print(f"clang-tidy: {len(todo)} batches of sources, {bad} with complaints, {time.monotonic() - start:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
