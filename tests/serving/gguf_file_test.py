"""The file that `aerie export --format gguf` writes, read by the `gguf` package: keys, tokenizer and every tensor are what
the draft's directory says, converted here once more by other means."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import torch
from gguf import GGUFReader
from safetensors.torch import load_file

import made_drafts
import target_gguf

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("AERIE", ROOT / "build/release/aerie")).resolve()
MODEL = ROOT / "models/SmolLM2-135M-Instruct"
NAMES = {"fc": "fc", "norm": "output_norm", "lm_head": "output", "midlayer.hidden_norm": "blk.0.attn_norm_2",
         **{f"midlayer.{ours}": f"blk.0.{theirs}" for ours, theirs in target_gguf.NAMES.items()}}


def tensor_of(entry) -> torch.Tensor:
    """As floats; ids as they are. The package gives bf16 as raw bytes."""
    data = torch.from_numpy(entry.data.copy())
    if entry.tensor_type.name == "BF16":
        data = data.view(torch.bfloat16)
    shape = [int(size) for size in reversed(entry.shape)]
    return (data if data.dtype == torch.int64 else data.float()).reshape(shape)


class GgufFile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Path(tempfile.mkdtemp(prefix="aerie-gguf-"))
        cls.addClassCleanup(shutil.rmtree, cls.place)
        cls.draft = cls.place / "draft"
        made_drafts.write(cls.draft, MODEL, [], attention=0.5)
        cls.target = cls.place / "target.gguf"
        target_gguf.convert(MODEL, cls.target)
        cls.export("from_gguf.gguf", "--target-gguf", cls.target)
        cls.export("from_hf.gguf", "--target", MODEL)

    @classmethod
    def aerie(cls, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run([PROGRAM, *map(str, arguments)], cwd=cls.place, text=True, capture_output=True)

    @classmethod
    def export(cls, name: str, *flags) -> None:
        done = cls.aerie("export", "--checkpoint", "draft", "--format", "gguf", "--output", name, *flags)
        assert done.returncode == 0, done.stderr
        assert "its logits equal the original's" in done.stderr, done.stderr

    def test_every_tensor(self):
        reader = GGUFReader(self.place / "from_gguf.gguf")
        theirs = {entry.name: tensor_of(entry) for entry in reader.tensors}
        source = load_file(self.draft / "model.safetensors")
        ids = torch.arange(len(source["d2t"])) + source.pop("d2t")
        self.assertEqual(sorted(torch.where(source.pop("t2d"))[0].tolist()), sorted(ids.tolist()))
        self.assertTrue(torch.equal(theirs.pop("d2t"), ids))
        self.assertEqual(set(theirs), {f"{name}.weight" for name in NAMES.values()})
        config = json.loads((self.draft / "config.json").read_text())
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
        for name, tensor in source.items():
            short = name.removesuffix(".weight")
            rotated = heads.get(short.split(".")[-1])
            expected = target_gguf.to_pairs(tensor, rotated) if rotated else tensor
            self.assertTrue(torch.equal(theirs[NAMES[short] + ".weight"], expected.float()), name)

    def test_keys(self):
        reader = GGUFReader(self.place / "from_gguf.gguf")
        value = {key: field.contents() for key, field in reader.fields.items()}
        config = json.loads((self.draft / "config.json").read_text())
        self.assertEqual(value["general.architecture"], "eagle3")
        self.assertEqual(value["eagle3.target_layers"], [layer + 1 for layer in made_drafts.CAPTURED])
        self.assertEqual(value["aerie.capture_layers"], made_drafts.CAPTURED)
        self.assertEqual(value["eagle3.target_hidden_size"], config["hidden_size"])
        self.assertEqual(value["eagle3.block_count"], 1)
        self.assertEqual(value["eagle3.vocab_size"], config["vocab_size"])
        self.assertEqual(value["eagle3.rope.freq_base"], config["rope_parameters"]["rope_theta"])
        self.assertAlmostEqual(value["eagle3.attention.layer_norm_rms_epsilon"], config["rms_norm_eps"], places=9)

    def test_tokenizer_is_the_targets(self):
        """Copied from its GGUF, every key; written from tokenizer.json, the same tokens of the same kinds."""
        def keys(file: Path) -> dict:
            return {key: field.contents() for key, field in GGUFReader(file).fields.items() if key.startswith("tokenizer.")}
        target, copied, written = (keys(file) for file in (self.target, self.place / "from_gguf.gguf",
                                                           self.place / "from_hf.gguf"))
        self.assertEqual(copied, target)
        for key in ("model", "tokens", "token_type", "merges", "eos_token_id", "bos_token_id"):
            self.assertEqual(written[f"tokenizer.ggml.{key}"], target[f"tokenizer.ggml.{key}"], key)

    def test_check_and_info(self):
        for name in ("from_gguf.gguf", "from_hf.gguf"):
            self.assertEqual(self.aerie("export", "--check", name).returncode, 0)
            facts = json.loads(self.aerie("info", "--json", name).stdout)
            self.assertEqual((facts["kind"], facts["draft_vocabulary"]), ("draft", 4096))
            self.assertEqual(facts["capture_layers"], made_drafts.CAPTURED)

    def test_refusals(self):
        def refused(pattern: str, *arguments):
            done = self.aerie("export", *arguments)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, pattern)
        to_gguf = ("--checkpoint", "draft", "--format", "gguf", "--output")
        refused("--target DIR .* or --target-gguf", *to_gguf, "x.gguf")
        refused("must end in .gguf", *to_gguf, "x", "--target", MODEL)
        refused("absent/tokenizer.json|absent/config.json", *to_gguf, "x.gguf", "--target", "absent")
        whole = (self.place / "from_hf.gguf").read_bytes()
        (self.place / "cut.gguf").write_bytes(whole[:-4096])
        refused("cut.gguf: tensor .* truncated", "--check", "cut.gguf")
        refused(r"\"general.architecture\" is \"llama\"", "--check", self.target)
        (self.place / "note.txt").write_text("not a draft")
        refused("note.txt is a file and no GGUF", "--check", "note.txt")


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    assert MODEL.exists(), f"{MODEL} is missing: scripts/fetch_smollm2.sh"
    unittest.main(verbosity=1)
