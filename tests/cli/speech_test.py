"""Speech out, from texts to a measured draft, on a tiny random target; rows that cannot be used, by file and line."""
import json
import unittest

from program import PROGRAM, ROOT, ProgramTest

TARGET = ROOT / "tests/golden/models/cosyvoice3"
CODES, VOCAB = 88, 96
RUN = f"""target:
  path: {TARGET}
draft:
  vocab_size: {VOCAB}
  layer_ids: [0, 1, 2]
data:
  train: [train.jsonl]
  heldout: heldout.jsonl
train:
  unroll: 2
  pack_tokens: 256
hidden_states:
  mode: offline
  store: store
eval:
  prompts: 2
output:
  dir: run
"""


def ask(i: int) -> str:
    row = {"id": f"row-{i}", "text": f"Number {i}."}
    if i % 2:
        row |= {"prompt_text": "Calmly.<|endofprompt|>Hm.", "prompt_speech": [(7 * i + k) % CODES for k in range(5)]}
    return json.dumps(row) + "\n"


class Speech(ProgramTest):
    def setUp(self):
        super().setUp()
        self.put("run.yaml", RUN)

    def command(self, *arguments):
        done = self.aerie(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def rows(self, name: str) -> list[dict]:
        return [json.loads(line) for line in (self.directory / name).read_text().splitlines()]

    def test_from_texts_to_a_measured_draft(self):
        for name, count in (("train", 16), ("heldout", 4)):
            self.put(f"{name}_texts.jsonl", "".join(map(ask, range(count))))
            self.command("resample", "--target", TARGET, "--input", f"{name}_texts.jsonl", "--output", f"{name}.jsonl",
                         "--max-new-tokens", "20", "--temperature", "1")
        answers = self.rows("train.jsonl")
        self.assertEqual(len(answers), 16)
        for row in answers:
            self.assertTrue(all(0 <= i < CODES for i in row["speech"]), row)
            self.assertEqual(row["finish_reason"] == "length", len(row["speech"]) == 20, row)
        self.assertTrue(any(row["finish_reason"] == "stop" for row in answers))
        for command in ("prepare", "dump", "train"):
            # A random target may end an answer before it begins.
            self.command(command, "--config", "run.yaml", "--set", "data.max_bad_rows=0.5")
        self.command("export", "--checkpoint", "run/best", "--output", "draft")
        config = json.loads((self.directory / "draft/config.json").read_text())
        self.assertEqual((config["vocab_size"], config["draft_vocab_size"]), (VOCAB, VOCAB))
        self.assert_error(r"a target that speaks: a draft for gguf cannot be", "export", "--checkpoint", "run/best",
                          "--output", "draft.gguf", "--format", "gguf", "--target", TARGET)
        self.command("bench", "--target", TARGET, "--draft", "draft", "--input", "heldout_texts.jsonl", "--output", "bench",
                     "--draft-tokens", "2", "--max-new-tokens", "12", "--ignore-eos")
        runs = json.loads((self.directory / "bench/bench.json").read_text())["runs"]
        self.assertEqual([r["tokens"] for r in runs], [4 * 12] * len(runs))
        self.assertTrue(all(r["identical_outputs"] for r in runs))
        self.command("generate", "--target", TARGET, "--draft", "draft", "--decoder", "eagle3", "--input",
                     "heldout_texts.jsonl", "--output", "out.jsonl", "--max-new-tokens", "8")
        for row in self.rows("out.jsonl"):
            self.assertEqual(row["text"], " ".join(map(str, row["tokens"])))

    def test_rows_of_another_kind_are_named(self):
        self.put("train.jsonl", json.dumps({"text": "Yes.", "speech": [1, 2]}) + "\n" +
                 json.dumps({"prompt": "Hi", "response": "Hello"}) + "\n" +
                 json.dumps({"text": "No.", "speech": [CODES, 2]}) + "\n")
        for line, what in ((2, "the target speaks"), (3, f"{CODES} of {CODES} codes")):
            self.assert_error(rf"(?s)train\.jsonl:{line}: .*{what}", "prepare", "--config", "run.yaml", "--quiet",
                              "--set", "data.heldout=")

    def test_what_needs_text(self):
        self.assert_error(r"it speaks, and OpenAI's requests", "serve", "--target", TARGET, "--port", "0")
        self.put("chat.jsonl", json.dumps({"id": "a", "prompt": "Hi"}) + "\n")
        self.assert_error(r"row a: the target speaks", "generate", "--target", TARGET, "--input", "chat.jsonl",
                          "--output", "out.jsonl", "--quiet")
        self.put("published/cosyvoice3.yaml", "")
        self.put("chat.jsonl", json.dumps({"id": "a", "text": "Hi"}) + "\n")
        self.assert_error(r"scripts/convert_cosyvoice3\.py", "train", "--config", "run.yaml", "--quiet",
                          "--set", "target.path=published")


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    unittest.main(verbosity=1)
