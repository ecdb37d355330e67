"""A run as one watches it: metrics.jsonl, TensorBoard reads the same values, report.html; early stop; domains."""
import json
import re
import shutil
import subprocess
import unittest
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

from program import MODEL, PYTHON, ProgramTest, chat

LONGER = ", as one can see by counting."

RUN = f"""target:
  path: {MODEL}
draft:
  vocab_size: 512
data:
  train: [train.jsonl]
  heldout: heldout.jsonl
train:
  unroll: 2
  pack_tokens: 128
  max_steps: 4
  checkpoint_every: 2
eval:
  every: 2
  prompts: 4
decode:
  draft_tokens: 2
  max_new_tokens: 6
output:
  dir: run
"""

# What TensorBoard itself makes of the directory.
READ_EVENTS = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""


class Balanced(HTMLParser):
    """Fails on a closing tag that closes nothing."""
    VOID = {"meta", "br"}

    def __init__(self, test):
        super().__init__()
        self.test, self.open = test, []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        self.test.assertEqual(self.open.pop(), tag)


class Watch(ProgramTest):
    def setUp(self):
        super().setUp()
        self.put("train.jsonl", "".join(chat(i, LONGER) for i in range(12)))
        self.put("heldout.jsonl", "".join(chat(i, LONGER, domain="even" if i % 2 == 0 else "odd") for i in range(20, 26)))
        self.put("run.yaml", RUN)

    def train(self, *arguments):
        done = self.aerie("train", "--config", "run.yaml", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def lines(self, run="run"):
        return [json.loads(line) for line in (self.directory / run / "metrics.jsonl").read_text().splitlines()]

    def events(self):
        done = subprocess.run([PYTHON, "-c", READ_EVENTS, self.directory / "run/tensorboard"], text=True,
                              capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def assert_events_are_the_lines(self):
        expected = {}

        def add(tag, step, value):
            if isinstance(value, (int, float)):
                expected.setdefault(tag, []).append([step, value])
            elif isinstance(value, list):
                for i, inner in enumerate(value):
                    add(f"{tag}/{i}", step, inner)
            elif isinstance(value, dict):
                for name, inner in value.items():
                    add(f"{tag}/{name}", step, inner)

        for line in self.lines():
            for key, value in line.items():
                if key != "step":
                    add(f"{line['kind']}/{key}", line["step"], value)
        seen = self.events()
        self.assertEqual(set(seen), set(expected))
        for tag, points in expected.items():
            self.assertEqual([p[0] for p in seen[tag]], [p[0] for p in points], tag)
            for (_, value), (_, wanted) in zip(seen[tag], points):
                self.assertAlmostEqual(value, wanted, delta=1e-6 * max(1, abs(wanted)), msg=tag)

    def test_tensorboard_reads_the_metrics_also_of_a_run_that_was_killed(self):
        self.train()
        self.assert_events_are_the_lines()
        # As if killed after step 2: the events of steps 3 and 4 belong to nothing any more.
        shutil.rmtree(self.directory / "run/step-000004")
        (self.directory / "run/latest").unlink()
        self.train()
        self.assertEqual([l["step"] for l in self.lines() if l["kind"] == "train"], [1, 2, 3, 4])
        self.assertEqual(len(list((self.directory / "run/tensorboard").iterdir())), 2)
        self.assert_events_are_the_lines()

    def test_held_out_documents_count_by_domain(self):
        self.train()
        last = [line for line in self.lines() if line["kind"] == "eval"][-1]
        self.assertEqual(set(last["domains"]), {"even", "odd"})
        self.assertEqual(sum(d["pairs"] for d in last["domains"].values()), last["pairs"])
        for domain in last["domains"].values():
            self.assertGreaterEqual(domain["acceptance"], 1)

    def test_trees_are_measured_beside_the_chains_where_the_run_asks_for_them(self):
        self.train("--set", "decode.tree=true", "--set", "decode.tree_width=3", "--set", "decode.tree_nodes=6")
        evaluations = [line for line in self.lines() if line["kind"] == "eval"]
        for line in evaluations:
            self.assertGreaterEqual(line["acceptance_tree"], 1)
        self.assert_events_are_the_lines()
        self.assertIn("measured in trees", (self.directory / "run/report.html").read_text())
        best = max(evaluations, key=lambda line: line["acceptance"])  # the first of the best, in chains
        self.assertEqual((self.directory / "run/best").readlink().name, f"step-{best['step']:06}")

    def test_other_commands_decode_as_the_run_file_says(self):
        self.train()
        self.assert_error(r"run/latest is a training run .*not a draft: give the draft in it, run/latest/draft",
                          "export", "--check", "run/latest")
        exported = self.aerie("export", "--checkpoint", "run/latest", "--output", "draft")
        self.assertEqual(exported.returncode, 0, exported.stderr)

        def bench(*arguments):
            done = self.aerie("bench", "--draft", "draft", "--input", "heldout.jsonl", "--output", "bench", *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
            made = json.loads((self.directory / "bench/bench.json").read_text())
            return made["max_new_tokens"], [(run["draft_tokens"], run["nodes"]) for run in made["runs"][1:]]

        tree = ("--set", "decode.tree=true", "--set", "decode.tree_nodes=3")
        self.assertEqual(bench("--config", "run.yaml", *tree), (6, [(2, 2), (2, 3)]))
        self.assertEqual(bench("--config", "run.yaml", "--draft-tokens", "1", "--max-new-tokens", "5"), (5, [(1, 1)]))
        # What the run file does not name stays as --help shows it.
        self.assertEqual(bench("--set", f"target.path={MODEL}", "--max-new-tokens", "5"), (5, [(5, 5)]))

    def test_no_better_draft_ends_the_run(self):
        # At so small a rate nothing changes, so that no evaluation is better than the first.
        done = self.train("--set", "eval.patience=2", "--set", "eval.every=1", "--set", "optim.lr=1e-12",
                          "--set", "train.max_steps=50")
        self.assertIn("training ends here (eval.patience)", done.stderr)
        self.assertEqual(self.lines()[-1]["step"], 3)
        self.assertEqual((self.directory / "run/best").readlink().name, "step-000001")
        again = self.train("--set", "eval.patience=2", "--set", "eval.every=1", "--set", "optim.lr=1e-12",
                           "--set", "train.max_steps=50")
        self.assertIn("done after 3 of 50 steps", again.stderr)
        self.assert_error("eval.patience is 2, and nothing is evaluated", "train", "--config", "run.yaml",
                          "--set", "eval.patience=2", "--set", "eval.every=0")

    def test_report_alone_and_of_several_runs(self):
        self.train()
        self.train("--set", "output.dir=other", "--set", "optim.lr=1e-5")
        done = self.aerie("report", "run", "other", "--output", "both.html")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("run/report.html", "both.html"):
            html = (self.directory / name).read_text()
            Balanced(self).feed(html)
            plots = re.findall(r"<svg.*?</svg>", html, re.S)
            self.assertGreater(len(plots), 7)
            for plot in plots:
                ET.fromstring(plot)
                self.assertNotIn("nan", plot)
        self.assertIn("Settings that differ", html)
        self.assertIn("optim.lr", html)
        self.assert_error("nowhere is no run", "report", "run", "nowhere")


if __name__ == "__main__":
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
