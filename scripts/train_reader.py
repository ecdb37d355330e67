"""A vision-language target that really works and is small enough to train here: Qwen2.5-VL in shape, one and a
half million parameters, it reads a rendered line of text. With it come the rows that a draft is trained and measured on.

usage: .venv/bin/python scripts/train_reader.py --output runs/reader [--tower-steps 400] [--steps 1200] [--lines 2000]
writes target/ (a Hugging Face directory), media/*.png, train_prompts.jsonl, heldout_prompts.jsonl, bench_prompts.jsonl
"""
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import small_target
import tiny_media

QUESTIONS = Path(__file__).resolve().parent.parent / "configs" / "quickstart"
COLUMNS, CELL, PATCH = 24, 12, 6  # characters of a line; pixels of a character, which is a token; of a patch
WIDTH, HEIGHT = COLUMNS * CELL, CELL
CHARACTERS = [chr(c) for c in range(32, 127)]


def texts_of(name: str) -> list[str]:
    rows = [json.loads(row) for row in (QUESTIONS / f"{name}_prompts.jsonl").read_text().splitlines()]
    return [r["conversations"][0]["content"].encode("ascii", "ignore").decode().replace("\n", " ") for r in rows]


class Reader(small_target.Task):
    dialect = tiny_media.IMAGES
    suffix = ".png"

    def __init__(self):
        self.texts = {split: texts_of(split) for split in ("train", "heldout", "bench")}
        self.font = ImageFont.load_default_imagefont()
        self.space = self.dialect.tokenizer().encode(" ")

    def draw(self, split: str, share: float, rng: random.Random) -> str:
        """A piece of a question, or, among full lines one time in three, characters at random: reading cannot be replaced
        by guessing."""
        longest = max(1, round(share * COLUMNS))
        length = rng.randrange((longest + 1) // 2, longest + 1)
        if rng.random() < max(1 / 3, 1 - share):
            return "".join(rng.choices(CHARACTERS, k=length)).strip() or "x"
        text = rng.choice(self.texts[split])
        begin = rng.randrange(max(1, len(text) - length))
        return text[begin:begin + length].strip() or "x"

    def make(self, text: str, rng: random.Random) -> np.ndarray:
        """Dark text on a light ground, of varying shades, moved by pixels, with noise. -> [H,W,3] u8"""
        ground, ink = rng.randrange(190, 256), rng.randrange(0, 90)
        image = Image.new("L", (WIDTH, HEIGHT), ground)
        draw = ImageDraw.Draw(image)
        dx, dy = rng.randrange(1, 6), rng.randrange(0, 2)
        for i, character in enumerate(text):
            draw.text((i * CELL + dx, dy), character, fill=ink, font=self.font)
        noise = np.random.default_rng(rng.randrange(1 << 30)).integers(-12, 13, (HEIGHT, WIDTH))
        grey = np.clip(np.asarray(image).astype(int) + noise, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1)

    def save(self, medium: np.ndarray, path: Path) -> None:
        Image.fromarray(medium).save(path)

    def inputs(self, media: list) -> tuple[dict, list[int]]:
        pixels = torch.cat([self.patches(image) for image in media])
        grid = torch.tensor([[1, HEIGHT // PATCH, WIDTH // PATCH]] * len(media))
        return dict(pixel_values=pixels, image_grid_thw=grid), [COLUMNS] * len(media)

    def inputs_of_tokens(self, ids: torch.Tensor) -> dict:
        return dict(mm_token_type_ids=(ids == self.dialect.ids()[self.dialect.placeholder]).int())

    def patches(self, image: np.ndarray) -> torch.Tensor:
        """The pixel values of transformers' processor for an image that needs no scaling."""
        x = torch.from_numpy(image).permute(2, 0, 1).float()
        mean, std = (torch.tensor(self.settings[k]).view(3, 1, 1) * 255 for k in ("image_mean", "image_std"))
        x = ((x - mean) / std).view(3, 1, 2, PATCH, COLUMNS, 2, PATCH).permute(1, 4, 2, 5, 0, 3, 6)
        return x.unsqueeze(5).expand(-1, -1, -1, -1, -1, 2, -1, -1).reshape(COLUMNS * 4, -1)

    def write_preprocessor(self, directory: Path) -> None:
        self.settings = tiny_media.write_image_preprocessor(directory, PATCH, WIDTH * HEIGHT, WIDTH * HEIGHT)

    def make_model(self) -> torch.nn.Module:
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
        ids = self.dialect.ids()
        # Multi-axis RoPE gives the columns the lowest of its frequencies: with the usual theta and a short line they
        # would hardly differ from one character to the next.
        text = dict(vocab_size=264, hidden_size=128, intermediate_size=256, num_hidden_layers=7, num_attention_heads=4,
                    num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=None,
                    eos_token_id=ids["<|im_end|>"],
                    rope_parameters=dict(rope_type="default", rope_theta=100.0, mrope_section=[1, 1, 14]))
        vision = dict(depth=2, hidden_size=96, intermediate_size=192, num_heads=3, patch_size=PATCH,
                      temporal_patch_size=2, spatial_merge_size=2, window_size=8 * CELL, out_hidden_size=128,
                      fullatt_block_indexes=[1])
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(
            text_config=text, vision_config=vision, image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"], tie_word_embeddings=False))

    def tower_loss(self, model, media: dict, texts: list[list[int]], counts: list[int]) -> torch.Tensor:
        """Every token of an image is a character; behind the line it is a space."""
        rows = torch.cat(list(model.model.get_image_features(media["pixel_values"], media["image_grid_thw"]).pooler_output))
        space = self.space.ids
        truth = torch.tensor([text + space * (COLUMNS - len(text)) for text in texts])
        return torch.nn.functional.cross_entropy(model.lm_head(rows), truth.flatten())


if __name__ == "__main__":
    small_target.main(Reader(), __doc__.splitlines()[0], tower_steps=400, steps=1200, lines=2000)
