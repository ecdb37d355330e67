"""A build without CUDA (-DAERIE_CUDA=OFF): it asks for no CUDA compiler, it compiles the same sources in the same way as the
build that is tested, and the program that comes of it says what --device cuda would need."""
import json
import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

from program import PROGRAM, ROOT, ProgramTest

BUILD = Path(os.environ.get("AERIE_BUILD", PROGRAM.parent))


def commands(build: Path) -> set[str]:
    """How each C++ source, or batch of them, is compiled, without what names the build directory."""
    return {entry["command"].replace(str(build), "BUILD")
            for entry in json.loads((build / "compile_commands.json").read_text()) if entry["file"].endswith((".cpp", ".cxx"))}


class WithoutCuda(ProgramTest):
    def configure(self) -> Path:
        build = self.directory / "build"
        tested = re.findall(r"^((?:CMAKE_BUILD_TYPE|CMAKE_UNITY_BUILD\w*|AERIE_SANITIZE):.*)", (BUILD / "CMakeCache.txt").read_text(), re.M)
        done = subprocess.run(
            ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DAERIE_CUDA=OFF", "-DAERIE_TESTS=OFF",
             *(f"-D{setting}" for setting in tested)],
            env={**os.environ, "CUDACXX": "/nowhere/nvcc"}, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return build

    def test_the_build_needs_no_cuda_and_compiles_the_same(self):
        build = self.configure()
        rules = (build / "build.ninja").read_text()
        for name in ("nvcc", "libtorch_cuda", "-ltorch_cuda", "aerie_cuda"):
            self.assertNotIn(name, rules)
        without = commands(build)
        self.assertGreater(len(without), 30)
        self.assertEqual(without - commands(BUILD), set(), "compiled otherwise than in the tested build")
        plan = subprocess.run(["ninja", "-C", build, "-n", "aerie"], text=True, capture_output=True)
        self.assertEqual(plan.returncode, 0, plan.stdout + plan.stderr)

    def test_the_program_without_its_cuda_side_says_so(self):
        alone = self.directory / "aerie"
        shutil.copy(PROGRAM, alone)
        row = self.put("prompts.jsonl", json.dumps({"id": "a", "prompt": "What is 2 + 2?"}) + "\n")
        done = subprocess.run([alone, "generate", "--target", ROOT / "models/SmolLM2-135M-Instruct", "--input", row,
                               "--output", "out.jsonl", "--device", "cuda:0"],
                              cwd=self.directory, text=True, capture_output=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"--device cuda: libaerie_cuda\.so is not in .*AERIE_CUDA=ON.*--device\s+cpu")


if __name__ == "__main__":
    unittest.main()
