"""Fails on an #include that points upward or sideways between rooms, pulls in all of torch, or is not root-relative.

usage: check_includes.py [ROOT]      checks the tree; prints the longest files as a reminder
       check_includes.py --self-test proves that each kind of violation is found
"""
import re
import sys
import tempfile
from pathlib import Path

# A room may include itself and the rooms named here (and nothing else of ours).
BELOW = {
    "common": set(),
    "configs": {"common"},
    "pages": {"common"},
    "kernels": {"common"},
    "data": {"common"},
    "target_models": {"kernels", "data", "common"},
    "draft_models": {"target_models", "kernels", "data", "common"},
    "trainer": {"draft_models", "target_models", "kernels", "data", "configs", "pages", "common"},
    "decoding": {"draft_models", "target_models", "kernels", "data", "configs", "pages", "common"},
    "cli": {"trainer", "decoding", "draft_models", "target_models", "kernels", "data", "configs", "pages", "common"},
}
BELOW["tests"] = set(BELOW)
SOURCES = {".h", ".cpp", ".cu", ".cuh"}
HEAVY = re.compile(r"torch/(torch|all|extension)\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
LONG_FILE = 300  # lines; a report, not a limit


def violations(root: Path, file: Path) -> list[str]:
    """What is wrong with the includes of one file, as "path: reason" lines."""
    name = file.relative_to(root)
    room = name.parts[0]
    found = []
    for bracket, included in INCLUDE.findall(file.read_text()):
        if HEAVY.fullmatch(included):
            found.append(f"{name}: {included} costs 12 s a file; include torch/types.h or less")
        if name.suffix == ".cu" and included.startswith(("torch/", "ATen/", "c10/")):
            found.append(f"{name}: {included} in a .cu file; pass raw pointers (kernels/cuda/launch.h)")
        if bracket == '"' and "/" not in included:
            found.append(f"{name}: {included}: write the path from the root, {name.parent}/{included}")
        target = included.split("/")[0]
        if "/" in included and target in BELOW and target != room and target not in BELOW[room]:
            allowed = ", ".join(sorted(BELOW[room])) or "nothing"
            found.append(f"{name}: {included}: {room}/ may include {allowed}, not {target}/")
    return found


def sources(root: Path) -> list[Path]:
    return sorted(f for room in BELOW for f in (root / room).rglob("*")
                  if f.suffix in SOURCES and "target" not in f.relative_to(root).parts)


def check(root: Path) -> int:
    files = sources(root)
    assert files, f"no sources under {root}"
    problems = [line for file in files for line in violations(root, file)]
    print("\n".join(problems) or f"{len(files)} files: every include points down")
    lengths = {f.relative_to(root): len(f.read_text().splitlines()) for f in files}
    for name, lines in sorted(lengths.items(), key=lambda item: -item[1]):
        if lines > LONG_FILE:
            print(f"long: {name} has {lines} lines; is it one idea?")
    return 1 if problems else 0


def self_test() -> int:
    cases = [  # room/file, its include, whether it is a violation
        ("kernels/a.cpp", '"target_models/model.h"', True),   # upward
        ("data/a.cpp", '"kernels/ops.h"', True),              # sideways
        ("trainer/a.h", '"decoding/engine.h"', True),         # siblings
        ("decoding/a.h", '"trainer/trainer.h"', True),
        ("common/a.h", '"configs/run_config.h"', True),
        ("kernels/cpu/a.cpp", "<torch/torch.h>", True),
        ("kernels/cuda/a.cu", "<ATen/ATen.h>", True),
        ("decoding/a.cpp", '"draft_models/draft.h"', False),  # downward
        ("kernels/cpu/a.cpp", '"kernels/ops.h"', False),
        ("data/a.cpp", "<torch/types.h>", False),
        ("data/a.cpp", "<vector>", False),
        ("tests/data/a.cpp", '"fixture.h"', True),            # not from the root
        ("tests/data/a.cpp", '"tests/data/fixture.h"', False),
        ("tests/data/a.cpp", "<torch/torch.h>", True),
        ("data/a.cpp", '"tests/testing.h"', True),            # a room knows no test
    ]
    for path, include, bad in cases:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            file = root / path
            file.parent.mkdir(parents=True)
            file.write_text(f"#pragma once\n  #  include {include}\n")
            found = violations(root, file)
            if bool(found) != bad:
                print(f"{path} with {include}: expected {'a' if bad else 'no'} violation, got {found}")
                return 1
    print(f"{len(cases)} cases: as expected")
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        sys.exit(self_test())
    sys.exit(check(Path(arguments[0] if arguments else ".").resolve()))
