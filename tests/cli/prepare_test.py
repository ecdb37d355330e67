"""aerie prepare as a user meets it: every form of row, from every kind of file; memory that does not grow with the data."""
import gzip
import json
import subprocess
import sys
import unittest

from program import MODEL, PROGRAM, ProgramTest

RUN = f"""target:
  path: {MODEL}
draft:
  vocab_size: 512
output:
  dir: run
"""

TEXT = "The answer is four, because two and two make four.\n\nIf it were five, nothing would hold any more. "

# Runs a command and prints the most memory that it had, in MB.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def turns(first="role", second="content", user="user", assistant="assistant"):
    return [{first: user, second: "What is two and two?"}, {first: assistant, second: "Four."}]


# Each of them is the same conversation.
FORMS = [
    {"id": "roles", "conversations": turns()},
    {"id": "sharegpt", "conversations": turns("from", "value", "human", "gpt")},
    {"id": "messages", "messages": turns()},
    {"prompt": "What is two and two?", "response": "Four."},
    {"id": 7, "messages": [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "two and two?"}]},
                           {"role": "assistant", "content": [{"type": "text", "text": "Four."}]}]},
]


class Prepare(ProgramTest):
    def setUp(self):
        super().setUp()
        self.put("run.yaml", RUN)

    def prepare(self, *files, expected=0, settings=()):
        arguments = [f"data.train=[{', '.join(files)}]", *settings]
        done = self.aerie("prepare", "--config", "run.yaml", *(a for s in arguments for a in ("--set", s)))
        self.assertEqual(done.returncode, expected, done.stderr)
        return done

    def report(self):
        return json.loads((self.directory / "run/data/train/report.json").read_text())

    def test_every_form_in_every_kind_of_file_gives_the_same_tokens(self):
        lines = "".join(json.dumps(row) + "\n" for row in FORMS)
        self.put("a.jsonl", lines)
        self.put("b.json", json.dumps(FORMS, indent=1))
        (self.directory / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        self.prepare("a.jsonl")
        one = self.report()
        self.assertEqual(one["documents"], len(FORMS))
        self.assertEqual(one["lengths"][0], one["lengths"][3], "the forms differ")
        # The tokens of a row that is tokenised already are taken as they are.
        self.put("d.jsonl", json.dumps({"input_ids": [1, 2, 3, 4, 5], "loss_mask": [0, 0, 1, 1, 1]}))
        self.prepare("a.jsonl", "b.json", "c.jsonl.gz", "d.jsonl")
        all_files = self.report()
        self.assertEqual(all_files["documents"], 3 * len(FORMS) + 1)
        self.assertEqual(all_files["tokens"], 3 * one["tokens"] + 5)
        self.assertEqual(all_files["supervised"], 3 * one["supervised"] + 3)

    def test_unusable_rows_are_named_by_reason_file_and_line(self):
        rows = [json.dumps(FORMS[0])] * 60
        rows[2] = '{"messages": ['
        rows[4] = json.dumps({"messages": [{"role": "narrator", "content": "x"}]})
        rows[5] = json.dumps({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": " "}]})
        rows[6] = json.dumps({"input_ids": [1, 2], "loss_mask": [0, 0]})
        self.put("a.jsonl", "\n".join(rows))
        done = self.prepare("a.jsonl", expected=1)
        for part in ("4 of 60 rows cannot be used", "1 x not JSON", "1 x unknown role", "1 x empty assistant turn",
                     "1 x nothing supervised", "a.jsonl:3: not JSON", "a.jsonl:5: unknown role", "a.jsonl:6:", "a.jsonl:7:",
                     "raise data.max_bad_rows (now 0.01)"):
            self.assertIn(part, done.stderr)
        done = self.prepare("a.jsonl", settings=["data.max_bad_rows=0.1"])
        self.assertIn("a.jsonl:5: unknown role", done.stderr)
        self.assertEqual(self.report()["documents"], 56)

    def test_reasoning_is_kept_or_left_out(self):
        thought = "<think>" + "Two and two. " * 20 + "</think>\n\nFour."
        self.put("a.jsonl", json.dumps({"messages": [{"role": "user", "content": "2 + 2?"},
                                                     {"role": "assistant", "content": thought}]}))
        self.prepare("a.jsonl")
        kept = self.report()["supervised"]
        self.prepare("a.jsonl", settings=["data.reasoning=false"])
        self.assertLess(self.report()["supervised"], kept // 4)

    def test_what_is_found(self):
        self.put("a.jsonl", "".join(json.dumps({"prompt": f"Question {i}?", "response": TEXT * (i % 5 + 1)}) + "\n"
                                    for i in range(50)))
        done = self.prepare("a.jsonl")
        for pattern in (r"sample, supervised text marked:\n.*⟦The answer is four", r"train: 50 documents of 50 rows, \d+ tokens",
                        r"% supervised; length median \d+, 90 % \d+, 99 % \d+, largest \d+; 0 cut",
                        r"draft vocabulary.*\n +512 ids  train 100\.00 %  \(this run's\)\n +4096 ids"):
            self.assertRegex(done.stderr, r"(?s)" + pattern)
        self.assertIn("(up to date)", self.prepare("a.jsonl").stderr)

    def memory(self, name, rows, compress):
        row = json.dumps({"prompt": TEXT, "response": TEXT * 30}) + "\n"
        data = (row * rows).encode()
        (self.directory / name).write_bytes(gzip.compress(data, 1) if compress else data)
        done = subprocess.run([sys.executable, "-c", MEASURE, PROGRAM, "prepare", "--config", "run.yaml", "--threads", "2",
                               "--set", f"data.train=[{name}]", "--set", f"data.cache={name}-data"],
                              cwd=self.directory, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return float(done.stdout), len(data) / 1e6

    def test_memory_does_not_grow_with_the_data(self):
        # Both fill the buffers: batches of rows, and a shard of tokens.
        for name, compress in (("plain.jsonl", False), ("packed.jsonl.gz", True)):
            little, small = self.memory("little-" + name, 9000, compress)
            much, large = self.memory("much-" + name, 27000, compress)
            self.assertGreater(large - small, 50)
            self.assertLess(much - little, 20, f"{little:.0f} MB for {small:.0f} MB of rows, {much:.0f} MB for {large:.0f} MB")


if __name__ == "__main__":
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
