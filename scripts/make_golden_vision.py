"""Reference values of images and of vision-language targets, from Pillow and transformers, for tests/data,
tests/target_models and tests/decoding. The results are committed under tests/golden; run again only to change them.

usage: .venv/bin/python scripts/make_golden_vision.py [images] [qwen2_5_vl] [qwen3_vl] [qwen3_vl_moe] [hunyuan_vl]
       (default: all)
"""
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageDraw, ImageOps  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import (  # noqa: E402
    HunYuanVLConfig, HunYuanVLForConditionalGeneration, PreTrainedConfig, Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.models.hunyuan_vl.image_processing_hunyuan_vl import HunYuanVLImageProcessor  # noqa: E402
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize  # noqa: E402

from make_golden_models import GOLDEN, ROOT, randomise  # noqa: E402
from tiny_media import HUNYUAN_IMAGES, IMAGES, Dialect, write_image_preprocessor  # noqa: E402

DIRECTORY = GOLDEN / "images"
ORIENTATION = 0x0112


def scene(width: int, height: int) -> Image.Image:
    """Gradients, edges and text: everything that scaling can get wrong."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x * 7 + y * 13) % 256], -1)
    image = Image.fromarray(base.astype(np.uint8), "RGB")
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 5, height // 5, width // 2, height * 4 // 5), outline="white", width=2)
    draw.text((width // 3, height // 3), "Aerie 42", fill="black")
    return image


def write_images() -> list[str]:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    scene(123, 77).save(DIRECTORY / "turned.jpg", quality=85, exif=turned)
    scene(90, 130).convert("L").save(DIRECTORY / "grey.jpg", quality=90)
    scene(200, 61).save(DIRECTORY / "progressive.jpg", quality=70, progressive=True, subsampling=0)
    alpha = scene(64, 48)
    alpha.putalpha(Image.linear_gradient("L").resize((64, 48)))
    mirrored = Image.Exif()
    mirrored[ORIENTATION] = 5
    alpha.save(DIRECTORY / "alpha.png", exif=mirrored, optimize=True)
    scene(40, 30).quantize(32).save(DIRECTORY / "palette.png", optimize=True)
    scene(17, 9).convert("L").save(DIRECTORY / "small.png", optimize=True)
    return sorted(p.name for p in DIRECTORY.iterdir())


def make_images() -> None:
    settings = dict(patch_size=14, temporal_patch_size=2, merge_size=2, min_pixels=56 * 56, max_pixels=28 * 28 * 6)
    processor = Qwen2VLImageProcessor(**settings)
    values = {}
    for name in write_images():
        image = ImageOps.exif_transpose(Image.open(DIRECTORY / name)).convert("RGB")
        values[f"{name}.pixels"] = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        out = processor(images=[image], return_tensors="pt")
        values[f"{name}.grid"] = out["image_grid_thw"][0]
        # Both frames of a still image are equal: one of them is kept.
        frames = out["pixel_values"].view(-1, 3, 2, 14 * 14)
        assert torch.equal(frames[:, :, 0], frames[:, :, 1])
        values[f"{name}.patches"] = frames[:, :, 0].contiguous()
    small = torch.arange(24, dtype=torch.uint8).view(2, 4, 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        image = Image.fromarray(small.numpy(), "RGB")
        image.info["exif"] = exif.tobytes()
        upright = ImageOps.exif_transpose(image)
        values[f"orientation.{orientation}"] = torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 3000, (200, 2), generator=generator).tolist()
    rows = []
    for h, w in sizes:
        if max(h, w) / min(h, w) <= 200:
            rows.append([h, w, *smart_resize(h, w, 28, 56 * 56, 28 * 28 * 1280)])
    values["smart_resize"] = torch.tensor(rows)
    save_file(values, GOLDEN / "images.safetensors", metadata={k: str(v) for k, v in settings.items()})
    print("tests/golden/images.safetensors", (GOLDEN / "images.safetensors").stat().st_size // 1024, "KiB")


TEXT = dict(vocab_size=264, hidden_size=64, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=None)
VISION = dict(depth=3, hidden_size=32, intermediate_size=40, num_heads=2, patch_size=4, temporal_patch_size=2,
              spatial_merge_size=2, out_hidden_size=64)
CONVERSATIONS = [
    [("user", ["Read this: ", "turned.jpg", " please."]), ("assistant", "It says Aerie 42.")],
    [("user", ["palette.png", " and ", "grey.jpg", " differ?"]), ("assistant", "Yes."),
     ("user", "Why?"), ("assistant", "One is grey.")],
    [("user", "No image here."), ("assistant", "True.")],
]


@dataclass(frozen=True)
class Family:
    config: Callable[[dict, dict], PreTrainedConfig]  # special ids, what all text configs say
    model: type
    preprocessor: dict
    dialect: Dialect = IMAGES
    processor: type = Qwen2VLImageProcessor
    marked_rows: bool = False  # a token behind each row of an image, one before and one behind the image

    def tokens(self, grid: list[int]) -> int:
        _, rows, columns = grid
        return rows // 2 * (columns // 2 + 1) + 2 if self.marked_rows else rows // 2 * columns // 2


def qwen_ids(ids: dict) -> dict:
    return dict(image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
                vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
                attn_implementation="eager", tie_word_embeddings=False)


def qwen2_5_vl(ids: dict, text: dict) -> PreTrainedConfig:
    rope = dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 3, 3])
    return Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rope},
                            vision_config={**VISION, "window_size": 16, "fullatt_block_indexes": [1]}, **qwen_ids(ids))


# Heads of 12 in the tower, as the 72 of the published model, are no power of two; features of two of its layers enter
# the decoder, which has more.
QWEN3_VISION = {**VISION, "hidden_size": 24, "num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2],
                "hidden_act": "gelu_pytorch_tanh"}
QWEN3_TEXT = dict(head_dim=16, num_hidden_layers=4,
                  rope_parameters=dict(rope_type="default", rope_theta=5000000.0, mrope_section=[4, 2, 2],
                                       mrope_interleaved=True))


def qwen3_vl(ids: dict, text: dict) -> PreTrainedConfig:
    return Qwen3VLConfig(text_config={**text, **QWEN3_TEXT}, vision_config=QWEN3_VISION, **qwen_ids(ids))


def qwen3_vl_moe(ids: dict, text: dict) -> PreTrainedConfig:
    experts = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, mlp_only_layers=[1])
    return Qwen3VLMoeConfig(text_config={**text, **QWEN3_TEXT, **experts}, vision_config=QWEN3_VISION, **qwen_ids(ids))


def hunyuan_vl(ids: dict, text: dict) -> PreTrainedConfig:
    rope = dict(rope_type="dynamic", alpha=1000.0, factor=1.0, rope_theta=10000.0, mrope_section=[2, 2, 2, 2])
    vision = dict(hidden_size=24, intermediate_size=40, num_attention_heads=2, num_hidden_layers=2, patch_size=4,
                  spatial_merge_size=2, temporal_patch_size=1, max_image_size=24, out_hidden_size=64,
                  text_hidden_size=64)
    return HunYuanVLConfig(text_config={**text, "head_dim": 16, "rope_parameters": rope}, vision_config=vision,
                           image_token_id=ids["<image>"], im_start_id=ids["<im_start>"], im_end_id=ids["<im_end>"],
                           attn_implementation="eager", tie_word_embeddings=True)


SMALL = dict(patch=4, min_pixels=16 * 16, max_pixels=48 * 48)
HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
FAMILIES = {
    "qwen2_5_vl": Family(qwen2_5_vl, Qwen2_5_VLForConditionalGeneration, SMALL),
    "qwen3_vl": Family(qwen3_vl, Qwen3VLForConditionalGeneration, {**SMALL, **HALF}),
    "qwen3_vl_moe": Family(qwen3_vl_moe, Qwen3VLMoeForConditionalGeneration, {**SMALL, **HALF, "max_pixels": 24 * 24}),
    "hunyuan_vl": Family(hunyuan_vl, HunYuanVLForConditionalGeneration,
                         {**SMALL, "temporal": 1, "kind": "HunYuanVLImageProcessor"}, HUNYUAN_IMAGES,
                         HunYuanVLImageProcessor, marked_rows=True),
}


def messages_of(conversation) -> list[dict]:
    parts = lambda content: [{"type": "image", "image": p} if "." in p and " " not in p else {"type": "text", "text": p}
                             for p in content]
    return [{"role": role, "content": content if isinstance(content, str) else parts(content)}
            for role, content in conversation]


def render(conversation, dialect: Dialect) -> str:
    from jinja2 import Template
    return Template(dialect.template).render(messages=messages_of(conversation), add_generation_prompt=False)


def make_model(family: Family, directory: Path):
    ids = family.dialect.ids()
    model = family.model(family.config(ids, {**TEXT, "eos_token_id": ids["<|im_end|>"]})).eval()
    randomise(model)
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    return model


def inputs_of(conversation, family: Family, processor, tokenizer) -> dict:
    files = [p for _, content in conversation if not isinstance(content, str)
             for p in content if "." in p and " " not in p]
    ids = tokenizer.encode(render(conversation, family.dialect)).ids
    if not files:
        return dict(input_ids=torch.tensor([ids]))
    images = [ImageOps.exif_transpose(Image.open(DIRECTORY / f)).convert("RGB") for f in files]
    out = processor(images=images, return_tensors="pt")
    counts = [family.tokens(grid) for grid in out["image_grid_thw"].tolist()]
    ids = torch.tensor([family.dialect.expand(ids, counts)])
    pad = family.dialect.ids()[family.dialect.placeholder]
    return dict(input_ids=ids, mm_token_type_ids=(ids == pad).int(), **out)


def forward(model, inputs: dict) -> dict:
    """The stream after each layer is taken where the next layer reads it: there DeepStack's features are in it."""
    decoder = model.model.language_model
    streams = []
    keep = lambda _module, arguments: streams.append(arguments[0][0])
    hooks = [m.register_forward_pre_hook(keep) for m in [*decoder.layers[1:], decoder.norm]]
    with torch.no_grad():
        result = model(**inputs, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return dict(tokens=inputs["input_ids"][0], logits=result.logits[0], hidden=result.hidden_states[-1][0],
                layers=torch.stack(streams)), result.hidden_states


def media_values(model, inputs: dict, recorded) -> dict:
    with torch.no_grad():
        seen = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    positions, _ = model.model.get_rope_index(inputs["input_ids"], inputs["mm_token_type_ids"],
                                              inputs["image_grid_thw"])
    values = dict(pixels=inputs["pixel_values"], tower=torch.cat(list(seen.pooler_output)),
                  positions=positions[:, 0].contiguous())
    if levels := getattr(seen, "deepstack_features", None):
        values["deepstack"] = torch.cat([torch.cat(list(level)) for level in levels], 1)
        # What transformers records of the layers that DeepStack follows: their outputs without it.
        values["recorded"] = torch.stack([recorded[i + 1][0] for i in range(len(levels))])
    return values


def make_family(name: str) -> None:
    family, directory = FAMILIES[name], GOLDEN / "models" / name
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    torch.manual_seed(7)
    model = make_model(family, directory)
    tokenizer = family.dialect.write_text_files(directory)
    settings = write_image_preprocessor(directory, **family.preprocessor)
    processor = family.processor(**{k: v for k, v in settings.items() if k != "image_processor_type"})
    pad = family.dialect.ids()[family.dialect.placeholder]
    values = {}
    for d, conversation in enumerate(CONVERSATIONS):
        inputs = inputs_of(conversation, family, processor, tokenizer)
        made, recorded = forward(model, inputs)
        prompt_end = len(tokenizer.encode(render(conversation[:1], family.dialect)).ids)
        prompt_end += len(tokenizer.encode("<|im_start|>assistant\n").ids)
        if "pixel_values" in inputs:
            made |= media_values(model, inputs, recorded)
            prompt_end += int((inputs["input_ids"] == pad).sum()) - len(inputs["image_grid_thw"])
        prompt = {k: v[:, :prompt_end] if k in ("input_ids", "mm_token_type_ids") else v for k, v in inputs.items()}
        with torch.no_grad():
            out = model.generate(**prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
        made["continuation"] = out[0, prompt_end:]
        values |= {f"{d}.{key}": value.contiguous() for key, value in made.items()}
    save_file(values, directory / "values.safetensors")
    print(f"{directory.relative_to(ROOT)}: {sum(f.stat().st_size for f in directory.iterdir()) // 1024} KiB")


if __name__ == "__main__":
    for part in sys.argv[1:] or ["images", *FAMILIES]:
        make_images() if part == "images" else make_family(part)
