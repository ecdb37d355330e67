"""aerie dump and training offline, as a user meets them; the store read with h5py."""
import json
import subprocess
import unittest

from program import MODEL, PROGRAM, PYTHON, ProgramTest, chat

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
hidden_states:
  mode: offline
  store: store
eval:
  prompts: 0
output:
  dir: run
"""

# What a user of Python sees, without a line of ours.
READ_BF16 = """
import h5py, json, numpy
shard = h5py.File("store/shard-00000.h5")
states = shard["aux"][:2].astype(numpy.float32)
print(json.dumps({
    "names": sorted(shard), "shape": shard["aux"].shape, "kind": shard["aux"].dtype.kind,
    "chunks": shard["aux"].chunks, "fletcher32": shard["aux"].fletcher32, "bytes": shard["aux"].id.get_type().get_size(),
    "rows": [shard["aux"].id.get_offset() is not None, float(states.std()), bool(numpy.isfinite(states).all())],
    # bf16 is the upper half of f32: nothing else may be set
    "bf16": bool((states.view(numpy.uint32) & 0xffff == 0).all()),
    "starts": shard["doc_start"][:].tolist(), "documents": shard["documents"][:].tolist(),
    "tokens": shard["tokens"][:8].tolist(), "facts": json.loads(shard.attrs["facts"])}))
"""


class Dump(ProgramTest):
    def setUp(self):
        super().setUp()
        self.put("train.jsonl", "".join(chat(i) for i in range(12)))
        self.put("heldout.jsonl", "".join(chat(i) for i in range(20, 23)))
        self.put("run.yaml", RUN)

    def command(self, *arguments):
        done = self.aerie(*arguments, "--config", "run.yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_estimate_is_the_size(self):
        estimate = self.command("dump", "--estimate").stdout
        self.assertRegex(estimate, r"train: hidden states of 12 documents: \d+ rows of 4617 bytes, 0\.\d+ GB in store; 0\.000 GB are there")
        self.assertRegex(estimate, r"heldout: hidden states of 3 documents")
        self.assertFalse((self.directory / "store").exists())

    def test_offline_training_and_h5py(self):
        self.command("dump")
        done = subprocess.run([PYTHON, "-c", READ_BF16], cwd=self.directory, text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        seen = json.loads(done.stdout)
        self.assertEqual(seen["names"], ["aux", "doc_start", "documents", "last", "loss_mask", "positions", "tokens"])
        self.assertEqual(seen["shape"], [seen["starts"][-1], 3 * 576])
        self.assertEqual((seen["kind"], seen["bytes"], seen["bf16"]), ("f", 2, True))
        self.assertTrue(seen["fletcher32"])
        self.assertEqual(seen["documents"], list(range(12)))
        self.assertGreater(seen["rows"][1], 0.01)
        self.assertIn("target.path (content of its weights)", seen["facts"])
        info = json.loads(self.aerie("info", "store", "--json").stdout)
        self.assertEqual((info["kind"], info["documents"]), ("hidden-state store", 12))
        self.command("train")
        self.assertTrue((self.directory / "run/latest").exists())

    def test_dry_run_tells_the_size_of_a_hybrid_store_and_makes_none(self):
        done = self.command("train", "--dry-run", "--set", "hidden_states.mode=hybrid")
        self.assertRegex(done.stderr, r"hidden states of 12 documents: \d+ rows of 4617 bytes")
        self.assertFalse((self.directory / "store").exists())
        self.assertEqual([], [path for path in self.directory.rglob(".aerie-dry-run*")])
        for part in ("start", "first pass: the target's forward, storing", "later passes: waiting for stored states",
                     "training the draft", "1 checkpoint", "metrics and report", "total"):
            self.assertRegex(done.stderr, rf"\n +{part} +[\d.]+ (s|min)")

    def test_a_flipped_byte_is_refused_by_name(self):
        self.command("dump")
        shard = self.directory / "store/shard-00000.h5"
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 4
        shard.write_bytes(content)
        self.assert_error(r"store/shard-00000\.h5 is damaged: its checksum is", "info", "store")
        self.assert_error(r"store/shard-00000\.h5 is damaged", "train", "--config", "run.yaml", "--quiet")

    def test_no_store(self):
        self.assert_error(r"store is no hidden-state store.*aerie dump makes one", "train", "--config", "run.yaml", "--quiet")

    def test_full_disk(self):
        done = subprocess.run(f"ulimit -f 400; trap '' XFSZ; {PROGRAM} dump --config run.yaml --quiet", shell=True,
                              cwd=self.directory, text=True, capture_output=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"error: cannot write store/shard-00000\.h5\.tmp: File too large.*intact.*About \d+ bytes are still to be written")
        self.assertNotIn("HDF5", done.stderr)
        self.command("dump")
        self.assertEqual(json.loads(self.aerie("info", "store", "--json").stdout)["documents"], 12)

    def test_parts(self):
        self.assert_usage_or_error("4/3")
        self.assert_usage_or_error("x")
        for part in ("1/2", "2/2"):
            self.command("dump", "--part", part)
        self.assertEqual(json.loads(self.aerie("info", "store", "--json").stdout)["documents"], 12)

    def assert_usage_or_error(self, part):
        self.assert_error(r"--part .*: write K/N", "dump", "--config", "run.yaml", "--part", part)


if __name__ == "__main__":
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
