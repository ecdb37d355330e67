"""Makes clang's form of the compile database. Its entries are what the compiler sees: a source, or a batch of sources of
one room (CMake's unity build).

usage: lint_database.py BUILD_DIRECTORY OUTPUT_DIRECTORY
"""
import json
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GCC_ONLY = {"-fpch-preprocess", "-Winvalid-pch"}


def arguments_of(command: str) -> list[str]:
    """The compiler's arguments without launcher, output and GCC's precompiled header."""
    words = iter(shlex.split(command))
    next(word for word in words if Path(word).name in ("c++", "g++"))
    kept = []
    for word in words:
        if word in ("-include", "-o", "-c", "-x"):
            next(words)
        elif word not in GCC_ONLY:
            kept.append(word)
    return kept


def main() -> None:
    build, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    output.mkdir(parents=True, exist_ok=True)
    entries = [e for e in json.loads((build / "compile_commands.json").read_text())
               if e["file"].endswith((".cpp", "_cxx.cxx"))]
    first = ["clang++", "-Wno-unknown-warning-option", "-include", str(ROOT / "cmake/pch.h")]
    database = [{"directory": e["directory"], "file": e["file"],
                 "arguments": [*first, *arguments_of(e["command"]), "-c", e["file"]]} for e in entries]
    (output / "compile_commands.json").write_text(json.dumps(database, indent=1))


if __name__ == "__main__":
    main()
