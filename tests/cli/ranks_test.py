"""aerie train on two processes, as its user starts it: torchrun --no-python."""
import json
import os
import subprocess
import unittest

from program import MODEL, PROGRAM, ROOT, ProgramTest, chat

TORCHRUN = ROOT / ".venv/bin/torchrun"

RUN = f"""target:
  path: {MODEL}
draft:
  vocab_size: 512
data:
  train: [train.jsonl]
train:
  unroll: 2
  pack_tokens: 128
  zero: 1
output:
  dir: run
"""


class Ranks(ProgramTest):
    def torchrun(self, *arguments) -> subprocess.CompletedProcess:
        self.put("train.jsonl", "".join(chat(i) for i in range(24)))
        self.put("run.yaml", RUN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run([TORCHRUN, "--no-python", "--nproc-per-node", "2", "--standalone", PROGRAM, *arguments],
                              cwd=self.directory, text=True, capture_output=True, env=environment, timeout=300)

    def test_two_ranks_train_one_draft(self):
        done = self.torchrun("train", "--config", "run.yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr.count("rank 0 of 2 (2 on this machine)"), 1, done.stderr)
        self.assertEqual(done.stderr.count("ready after"), 1, "rank 0 alone logs")
        state = json.loads((self.directory / "run/latest/state.json").read_text())
        self.assertEqual(state["packs_per_step"], 2)
        lines = [json.loads(line) for line in (self.directory / "run/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], list(range(1, state["step"] + 1)))
        self.assertGreater(sum(line["tokens_per_second"] for line in lines), 0)

    def test_an_error_ends_both_and_is_printed(self):
        done = self.torchrun("train", "--config", "run.yaml", "--set", "hidden_states.mode=hybrid")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Run aerie dump under the same launcher", done.stderr)


if __name__ == "__main__":
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
