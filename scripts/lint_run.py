"""Runs clang-tidy on files, several at a time; a file that was clean is not looked at again until it, a header of ours that it
includes, or the checks change.

usage: lint_run.py DATABASE_DIRECTORY FILE...
"""
import hashlib
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
    parts = [ROOT / ".clang-tidy", ROOT / "cmake/pch.h", *closure(file)]
    return hashlib.sha256("\0".join([str(file), *map(text_of, parts)]).encode()).hexdigest()


def lint(database: Path, file: Path) -> str | None:
    """What clang-tidy complains about; None where the file is clean."""
    stamp = database / "clean" / key_of(file)
    if stamp.exists():
        return None
    done = subprocess.run(["clang-tidy", "-p", database, "--quiet", "--warnings-as-errors=*", file],
                          text=True, capture_output=True)
    if done.returncode == 0:
        stamp.touch()
        return None
    return done.stdout or done.stderr


def main() -> int:
    database, files = Path(sys.argv[1]), [Path(name).resolve() for name in sys.argv[2:]]
    (database / "clean").mkdir(exist_ok=True)
    start, bad = time.monotonic(), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for complaint in pool.map(lambda file: lint(database, file), files):
            if complaint:
                bad += 1
                print(complaint, flush=True)
    print(f"clang-tidy: {len(files)} files, {bad} with complaints, {time.monotonic() - start:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
