"""Images and speech from rows to a measured draft, on tiny random targets; media that cannot be used, by row and name."""
import json
import unittest
import wave

from program import PROGRAM, ROOT, ProgramTest

GOLDEN = ROOT / "tests/golden"
IMAGES = ["images/palette.png", "images/turned.jpg", "images/grey.jpg"]
TARGETS = {  # model: the kind of its media, files that it takes
    **{model: ("image", IMAGES) for model in ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "hunyuan_vl")},
    "qwen2_audio": ("audio", ["audio/speech.flac", "audio/speech.ogg", "audio/speech.wav"]),
}
RUN = """target:
  path: {target}
draft:
  vocab_size: 64
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


def row(name: str, parts: list[dict], answer: str = "Yes.") -> str:
    content = [*parts, {"type": "text", "text": "Which?"}]
    return json.dumps({"id": name, "messages": [{"role": "user", "content": content},
                                                {"role": "assistant", "content": answer}]}) + "\n"


def text_row(name: str) -> str:
    return json.dumps({"id": name, "prompt": "Which?", "response": "None of them."}) + "\n"


def part(kind: str, path) -> dict:
    return {"type": kind, "path": str(path)}


class Pipeline(ProgramTest):
    """Text rows and rows with media in one run, from prepare to bench."""

    def rows(self, model: str, count: int) -> str:
        kind, files = TARGETS[model]
        return "".join(
            text_row(f"text-{i}") if i % 3 == 0 else
            row(f"row-{i}", [part(kind, GOLDEN / files[(i + k) % len(files)]) for k in range(i % 3)], f"Number {i % 7} it is.")
            for i in range(count))

    def command(self, *arguments):
        done = self.aerie(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def run_all(self, model: str, *settings: str):
        self.put("run.yaml", RUN.format(target=GOLDEN / "models" / model))
        self.put("train.jsonl", self.rows(model, 18))
        self.put("heldout.jsonl", self.rows(model, 4))
        for command in ("prepare", "dump", "train"):
            self.command(command, "--config", "run.yaml", *(a for s in settings for a in ("--set", s)))
        report = json.loads((self.directory / "run/data/train/report.json").read_text())
        self.assertEqual(report["documents"], 18)
        info = json.loads(self.aerie("info", "store", "--json").stdout)
        self.assertEqual(info["documents"], 18)
        exported = self.command("export", "--checkpoint", "run/best", "--output", "draft")
        self.command("bench", "--target", GOLDEN / "models" / model, "--draft", "draft", "--input", "heldout.jsonl",
                     "--output", "bench", "--draft-tokens", "2", "--max-new-tokens", "12", "--ignore-eos")
        runs = json.loads((self.directory / "bench/bench.json").read_text())["runs"]
        self.assertEqual([r["tokens"] for r in runs], [4 * 12] * len(runs))
        self.assertTrue(all(r["identical_outputs"] for r in runs))
        self.assertEqual({r["decoder"] for r in runs}, {"autoregressive", "eagle3"})
        return exported.stderr

    def test_windows_and_blocks_of_axes(self):
        self.run_all("qwen2_5_vl")

    def test_deepstack_and_interleaved_axes(self):
        self.run_all("qwen3_vl")

    def test_experts_behind_a_vision_tower(self):
        self.run_all("qwen3_vl_moe", "draft.init=head")

    def test_marked_rows_and_four_axes(self):
        self.run_all("hunyuan_vl")

    def test_speech(self):
        self.assertNotIn("serving engines feed it", self.run_all("qwen2_audio"))

    def test_features_in_place_of_placeholders(self):
        warning = self.run_all("qwen2_audio", "draft.use_input_embeds=true")
        self.assertIn("serving engines feed it the placeholder's embedding", warning)
        config = json.loads((self.directory / "draft/config.json").read_text())
        self.assertTrue(config["aerie"]["use_input_embeds"])


class BadMedia(ProgramTest):
    def refuse(self, model: str, parts: list[dict], pattern: str):
        """The second row is bad: as data its file and line are named, as a prompt its id or they."""
        self.put("rows.jsonl", text_row("good") + row("bad", parts))
        target = GOLDEN / "models" / model
        self.put("run.yaml", RUN.format(target=target))
        self.assert_error(r"(?s)rows\.jsonl:2: .*" + pattern, "prepare", "--config", "run.yaml", "--quiet",
                          "--set", "data.train=[rows.jsonl]", "--set", "data.heldout=")
        self.assert_error(r"(rows\.jsonl:2|row bad): .*" + pattern, "generate", "--target", target, "--input",
                          "rows.jsonl", "--output", "out.jsonl", "--quiet")

    def write_wav(self, name: str, channels: int, samples: int) -> bytes:
        path = self.directory / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(bytes(2 * channels * samples))
        return path.read_bytes()

    def test_truncated_audio(self):
        whole = self.write_wav("cut.wav", 1, 16000)
        (self.directory / "cut.wav").write_bytes(whole[:20000])
        self.refuse("qwen2_audio", [part("audio", "cut.wav")], r"cut\.wav: the audio is truncated: .*Copy the file again")

    def test_empty_audio(self):
        self.put("nothing.flac", "")
        self.refuse("qwen2_audio", [part("audio", "nothing.flac")], r"nothing\.flac: the file is empty")
        self.write_wav("silent.wav", 1, 0)
        self.refuse("qwen2_audio", [part("audio", "silent.wav")], r"silent\.wav: the audio is empty")
        self.write_wav("short.wav", 1, 300)
        self.refuse("qwen2_audio", [part("audio", "short.wav")], r"short\.wav: the audio has 300 samples")

    def test_channels_and_length(self):
        self.write_wav("six.wav", 6, 1600)
        self.refuse("qwen2_audio", [part("audio", "six.wav")], r"six\.wav: the audio has 6 channels.*mix it down")
        self.write_wav("long.wav", 1, 16000 * 3)
        self.refuse("qwen2_audio", [part("audio", "long.wav")], r"long\.wav: the audio lasts 3\.0 s, and the model hears 2 s")

    def test_what_is_no_file(self):
        self.refuse("qwen2_audio", [{"type": "audio", "audio_url": "https://example.com/a.wav"}],
                    r"https://example\.com/a\.wav: nothing is downloaded")
        self.refuse("qwen2_audio", [part("audio", "absent.wav")], r"absent\.wav")
        self.refuse("qwen2_audio", [part("audio", GOLDEN / "images/grey.jpg")], r"grey\.jpg: this is no audio")

    def test_a_kind_that_the_target_lacks(self):
        speech, image = part("audio", GOLDEN / "audio/speech.wav"), part("image", GOLDEN / "images/grey.jpg")
        self.refuse("qwen2_audio", [speech, image], r"models/qwen2_audio takes no images")
        self.refuse("qwen2_5_vl", [image, speech], r"models/qwen2_5_vl takes no audio")

    def test_damaged_images(self):
        (self.directory / "cut.jpg").write_bytes((GOLDEN / "images/grey.jpg").read_bytes()[:900])
        self.refuse("qwen2_5_vl", [part("image", "cut.jpg")], r"cut\.jpg")


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh"
    unittest.main(verbosity=1)
