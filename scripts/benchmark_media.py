"""How fast images and audio files become what a tower reads, decoding included: ours beside transformers' processors
(the torchvision-backed one of Qwen2-VL, Whisper's feature extractor), the same files, the same number of threads, in turn.

usage: .venv/bin/python scripts/benchmark_media.py [--files 48] [--rounds 3]
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
import wave
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import WhisperFeatureExtractor  # noqa: E402
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor  # noqa: E402

from tiny_media import AUDIO, IMAGES, write_image_preprocessor  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build/release/benchmark_media"
RATE, SECONDS = 16000, (5, 10, 30)  # lengths in turn
SIZES = ((640, 480), (1280, 960), (1920, 1080))


def write_images(directory: Path, count: int) -> list[Path]:
    """Smooth shapes and some noise, as photographs have them; three sizes in turn."""
    draw, files = np.random.default_rng(0), []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        coarse = Image.fromarray(draw.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(smooth + draw.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
        files.append(directory / f"{i}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=88)
    return files


def write_audio(directory: Path, count: int) -> list[Path]:
    draw, files = np.random.default_rng(1), []
    for i in range(count):
        samples = (draw.standard_normal(RATE * SECONDS[i % len(SECONDS)]) * 3000).astype(np.int16)
        files.append(directory / f"{i}.wav")
        with wave.open(str(files[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(samples.tobytes())
    return files


def image_model(directory: Path):
    settings = write_image_preprocessor(directory, 14, 56 * 56, 28 * 28 * 1280)
    ids = IMAGES.ids()
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "image_token_id": ids["<|image_pad|>"]}))
    processor = Qwen2VLImageProcessor(**{k: v for k, v in settings.items() if k != "image_processor_type"})

    def load(file: Path) -> None:
        processor(images=[Image.open(file).convert("RGB")], return_tensors="pt")["pixel_values"]
    return load


def audio_model(directory: Path):
    extractor = WhisperFeatureExtractor(feature_size=128)
    extractor.save_pretrained(directory)
    (directory / "config.json").write_text(json.dumps(
        {"model_type": "qwen2_audio", "audio_token_index": AUDIO.ids()["<|AUDIO|>"]}))

    def load(file: Path) -> None:
        with wave.open(str(file), "rb") as opened:
            samples = np.frombuffer(opened.readframes(opened.getnframes()), np.int16).astype(np.float32) / 32768
        extractor(samples, sampling_rate=RATE, return_tensors="pt")["input_features"]
    return load


def ours(directory: Path, kind: str, threads: int, files: list[Path]) -> float:
    done = subprocess.run([PROGRAM, directory, str(threads), kind, *files], check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["seconds"]


def theirs(load, threads: int, files: list[Path]) -> float:
    torch.set_num_threads(threads)
    start = time.perf_counter()
    for file in files:
        load(file)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    subprocess.run(["cmake", "--build", ROOT / "build/release", "--target", "benchmark_media"], check=True,
                   stdout=subprocess.DEVNULL)
    cores = len(os.sched_getaffinity(0))
    for kind, write, make in (("image", write_images, image_model), ("audio", write_audio, audio_model)):
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            files, load = write(directory, given.files), make(directory)
            theirs(load, 1, files[:3])
            for threads in sorted({1, cores}):
                rounds = [(ours(directory, kind, threads, files), theirs(load, threads, files)) for _ in range(given.rounds)]
                mine, other = (min(times) for times in zip(*rounds))
                print(f"{kind}, {threads} thread{'s' * (threads > 1)}: {given.files / mine:.1f} files/s, transformers "
                      f"{given.files / other:.1f}: {other / mine:.1f} x", flush=True)


if __name__ == "__main__":
    main()
