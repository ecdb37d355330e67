"""A vision-language target that really works and is small enough to train here: Qwen2.5-VL in shape, two million
parameters, it reads a rendered line of text. With it come the rows that a draft is trained and measured on.

usage: .venv/bin/python scripts/train_reader.py --output runs/reader [--minutes 8] [--lines 600]
writes target/ (a Hugging Face directory), images/*.png, train_prompts.jsonl, heldout_prompts.jsonl, bench_prompts.jsonl
"""
import argparse
import json
import math
import os
import random
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin beside another program starve both

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration  # noqa: E402

import tiny_vision  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = ROOT / "configs" / "quickstart"
COLUMNS, CELL, PATCH = 24, 8, 4  # characters of a line; pixels of a character, which is a token wide and two high
TOKENS = COLUMNS * 2
WIDTH, HEIGHT = COLUMNS * CELL, 2 * CELL
CHARACTERS = [chr(c) for c in range(32, 127)]
FONT = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else ImageFont.load_default()


def render(line: str, rng: random.Random) -> Image.Image:
    """Dark text on a light ground, of varying shades, moved up to a pixel, with noise."""
    ground, ink = rng.randrange(190, 256), rng.randrange(0, 90)
    image = Image.new("L", (WIDTH, HEIGHT), ground)
    draw = ImageDraw.Draw(image)
    dx, dy = rng.randrange(0, 2), rng.randrange(0, 3)
    for i, character in enumerate(line):
        draw.text((i * CELL + dx, 2 + dy), character, fill=ink, font=FONT)
    noise = np.random.default_rng(rng.randrange(1 << 30)).integers(-12, 13, (HEIGHT, WIDTH))
    return Image.fromarray(np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8)).convert("RGB")


def texts_of(name: str) -> list[str]:
    rows = [json.loads(row) for row in (QUESTIONS / name).read_text().splitlines()]
    return [r["conversations"][0]["content"].encode("ascii", "ignore").decode().replace("\n", " ") for r in rows]


def draw_line(texts: list[str], rng: random.Random) -> str:
    """A piece of a question; one time in three letters at random, so that reading cannot be replaced by guessing."""
    length = rng.randrange(COLUMNS // 2, COLUMNS + 1)
    if rng.random() < 1 / 3:
        return "".join(rng.choices(CHARACTERS, k=length)).strip() or "x"
    text = rng.choice(texts)
    begin = rng.randrange(max(1, len(text) - length))
    return text[begin:begin + length].strip() or "x"


def patches_of(image: Image.Image, settings: dict) -> torch.Tensor:
    """The pixel values of transformers' processor for an image that needs no scaling."""
    x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()
    mean, std = (torch.tensor(settings[k]).view(3, 1, 1) * 255 for k in ("image_mean", "image_std"))
    m, p = 2, PATCH
    x = ((x - mean) / std).view(3, HEIGHT // (m * p), m, p, WIDTH // (m * p), m, p).permute(1, 4, 2, 5, 0, 3, 6)
    return x.unsqueeze(5).expand(-1, -1, -1, -1, -1, 2, -1, -1).reshape(TOKENS * m * m, -1)


def make_model() -> Qwen2_5_VLForConditionalGeneration:
    ids = tiny_vision.token_ids()
    text = dict(vocab_size=264, hidden_size=128, intermediate_size=384, num_hidden_layers=10, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=None,
                eos_token_id=ids["<|im_end|>"],
                rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[4, 6, 6]))
    vision = dict(depth=2, hidden_size=96, intermediate_size=192, num_heads=3, patch_size=PATCH, temporal_patch_size=2,
                  spatial_merge_size=2, window_size=8 * CELL, out_hidden_size=128, fullatt_block_indexes=[1])
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=False))


class Batches:
    """Rendered lines as model inputs. Every prompt is the same but for its pixels."""

    def __init__(self, tokenizer, settings: dict):
        self.tokenizer, self.settings = tokenizer, settings
        prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n"
        self.prompt = tiny_vision.expand(tokenizer.encode(prompt).ids, [TOKENS])
        self.end = tiny_vision.token_ids()["<|im_end|>"]

    def __call__(self, lines: list[str], rng: random.Random) -> dict:
        answers = [self.tokenizer.encode(line).ids + [self.end] for line in lines]
        longest, n = max(map(len, answers)), len(self.prompt)
        ids, labels = torch.full((len(lines), n + longest), self.end), torch.full((len(lines), n + longest), -100)
        for i, answer in enumerate(answers):
            ids[i, :n], ids[i, n:n + len(answer)] = torch.tensor(self.prompt), torch.tensor(answer)
            labels[i, n:n + len(answer)] = torch.tensor(answer)
        pixels = torch.cat([patches_of(render(line, rng), self.settings) for line in lines])
        pad = tiny_vision.token_ids()["<|image_pad|>"]
        return dict(input_ids=ids, labels=labels, pixel_values=pixels, mm_token_type_ids=(ids == pad).int(),
                    image_grid_thw=torch.tensor([[1, HEIGHT // PATCH, WIDTH // PATCH]] * len(lines)))


def train(model, batches: Batches, texts: list[str], minutes: float, batch: int) -> None:
    rng = random.Random(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    start, step, done = time.time(), 0, 0.0
    while done < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 60) * (0.03 + 0.97 * (1 + math.cos(math.pi * done)) / 2)
        inputs = batches([draw_line(texts, rng) for _ in range(batch)], rng)
        labels = inputs.pop("labels")
        if step == 0:  # one layout for all: its positions are computed once
            positions, _ = model.model.get_rope_index(inputs["input_ids"][:1], inputs["mm_token_type_ids"][:1],
                                                      inputs["image_grid_thw"][:1])
            positions = torch.cat([positions] + [positions[..., -1:] + 1 + i for i in range(COLUMNS + 1)], -1)
        length = inputs["input_ids"].shape[1]
        logits = model(**inputs, position_ids=positions[..., :length].expand(-1, batch, -1)).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, done = step + 1, (time.time() - start) / (60 * minutes)
        if step % 25 == 1 or done >= 1:
            print(f"step {step}: loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
    model.eval()


def read_errors(model, batches: Batches, lines: list[str]) -> tuple[float, float]:
    """Share of wrong characters and of wrong lines, each token after the right ones before it."""
    with torch.no_grad():
        inputs = batches(lines, random.Random(3))
        labels = inputs.pop("labels")[:, 1:]
        wrong = (model(**inputs).logits[:, :-1].argmax(-1) != labels) & (labels != -100)
    return wrong.sum().item() / (labels != -100).sum().item(), wrong.any(1).float().mean().item()


def write_rows(output: Path, name: str, lines: list[str], rng: random.Random) -> None:
    with open(output / f"{name}_prompts.jsonl", "w") as file:
        for i, line in enumerate(lines):
            image = f"images/{name}-{i}.png"
            render(line, rng).save(output / image)
            row = {"id": f"{name}-{i}", "text": line,
                   "conversations": [{"role": "user", "content": [{"type": "image", "image": image}]}]}
            file.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8, help="of training; the schedule follows the clock")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lines", type=int, default=600, help="lines that a draft is trained on")
    flags = parser.parse_args()
    target = flags.output / "target"
    for directory in (target, flags.output / "images"):
        directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tokenizer = tiny_vision.write_text_files(target)
    settings = tiny_vision.write_preprocessor(target, PATCH, min_pixels=WIDTH * HEIGHT, max_pixels=WIDTH * HEIGHT)
    model, batches = make_model(), Batches(tokenizer, settings)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    train(model, batches, texts_of("train_prompts.jsonl"), flags.minutes, flags.batch)
    heldout, rng = texts_of("heldout_prompts.jsonl") + texts_of("bench_prompts.jsonl"), random.Random(2)
    characters, lines = read_errors(model, batches, [draw_line(heldout, rng) for _ in range(100)])
    print(f"held-out lines: {characters:.2%} of the characters wrong, {lines:.0%} of the lines")
    model.to(torch.bfloat16).save_pretrained(target)
    (target / "generation_config.json").unlink(missing_ok=True)
    texts = texts_of("train_prompts.jsonl")
    write_rows(flags.output, "train", [draw_line(texts, rng) for _ in range(flags.lines)], rng)
    write_rows(flags.output, "heldout", [draw_line(heldout, rng) for _ in range(40)], rng)
    write_rows(flags.output, "bench", [draw_line(heldout, rng) for _ in range(60)], rng)


if __name__ == "__main__":
    main()
