"""Makes clang's form of the compile database, with a precompiled header that clang can read. Its entries are what the
compiler sees: a source, or a batch of sources of one room (CMake's unity build).

usage: lint_database.py BUILD_DIRECTORY OUTPUT_DIRECTORY
"""
import json
import shlex
import shutil
import subprocess
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


def precompile(clang: str, header: Path, arguments: list[str], compiled: Path) -> None:
    """clang's precompiled form of `header`; kept while the header and the arguments stay."""
    stamp = compiled.with_suffix(".arguments")
    wanted = shlex.join(arguments)
    current = compiled.exists() and compiled.stat().st_mtime > header.stat().st_mtime
    if not current or not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([clang, "-x", "c++-header", *arguments, header, "-o", compiled], check=True)
        stamp.write_text(wanted)


def main() -> None:
    build, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    output.mkdir(parents=True, exist_ok=True)
    entries = [e for e in json.loads((build / "compile_commands.json").read_text())
               if e["file"].endswith((".cpp", "_cxx.cxx"))]
    header, compiled = ROOT / "cmake/pch.h", output / "pch.h.pch"
    clang = next(filter(None, map(shutil.which, ("clang-14", "clang++", "clang"))), None)
    if clang:
        pch_entry = next(e for e in entries if "aerie_pch.dir" in e["command"])
        precompile(clang, header, arguments_of(pch_entry["command"]), compiled)
    first = ["-include-pch", str(compiled)] if clang else ["-include", str(header)]
    database = [{"directory": e["directory"], "file": e["file"],
                 "arguments": ["clang++", *first, *arguments_of(e["command"]), "-c", e["file"]]} for e in entries]
    (output / "compile_commands.json").write_text(json.dumps(database, indent=1))


if __name__ == "__main__":
    main()
