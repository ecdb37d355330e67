"""Runs the built program in a directory of its own, for the tests beside this file."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("AERIE", ROOT / "build/release/aerie")).resolve()
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
PYTHON = ROOT / ".venv/bin/python"
ERROR, USAGE = 1, 2


def chat(i: int, ending: str = ".", **more) -> str:
    """A row of training data, with `more` beside its id."""
    return json.dumps({"id": f"row-{i}", **more, "conversations": [
        {"role": "user", "content": f"What is {i} + {i}?"},
        {"role": "assistant", "content": f"{i} + {i} makes {2 * i}{ending}"}]}) + "\n"


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="aerie-cli-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def aerie(self, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run([PROGRAM, *map(str, arguments)], cwd=self.directory, text=True, capture_output=True)

    def put(self, name: str, content: str) -> str:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return name

    def model_with(self, config: dict, weights: bytes | None = None) -> str:
        """A copy of the quickstart's model (links) whose config.json or weights differ."""
        model = self.directory / "model"
        model.mkdir()
        for file in MODEL.iterdir():
            (model / file.name).symlink_to(file)
        changed = {**json.loads((MODEL / "config.json").read_text()), **config}
        (model / "config.json").unlink()
        (model / "config.json").write_text(json.dumps(changed))
        if weights is not None:
            (model / "model.safetensors").unlink()
            (model / "model.safetensors").write_bytes(weights)
        return "model"

    def assert_error(self, pattern: str, *arguments):
        """Exit code 1, and the message printed once, on stderr, after `error: `."""
        done = self.aerie(*arguments)
        errors = done.stderr.split("error: ")[1:]
        self.assertEqual(done.returncode, ERROR, done.stderr)
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertRegex(errors[0], pattern)
        self.assertEqual(done.stdout, "")

    def assert_usage(self, pattern: str, *arguments):
        done = self.aerie(*arguments)
        self.assertEqual(done.returncode, USAGE, done.stderr)
        self.assertRegex(done.stderr, pattern)
