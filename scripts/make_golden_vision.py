"""Reference values of images and of vision-language targets, from Pillow and transformers, for tests/data,
tests/target_models and tests/decoding. The results are committed under tests/golden; run again only to change them.

usage: .venv/bin/python scripts/make_golden_vision.py [images] [qwen2_5_vl]     (default: all)
"""
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageDraw, ImageOps  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration  # noqa: E402
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize  # noqa: E402

from make_golden_models import GOLDEN, ROOT, randomise  # noqa: E402
from tiny_media import IMAGES as DIALECT, write_image_preprocessor  # noqa: E402

IMAGES = GOLDEN / "images"
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
    IMAGES.mkdir(parents=True, exist_ok=True)
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    scene(123, 77).save(IMAGES / "turned.jpg", quality=85, exif=turned)
    scene(90, 130).convert("L").save(IMAGES / "grey.jpg", quality=90)
    scene(200, 61).save(IMAGES / "progressive.jpg", quality=70, progressive=True, subsampling=0)
    alpha = scene(64, 48)
    alpha.putalpha(Image.linear_gradient("L").resize((64, 48)))
    mirrored = Image.Exif()
    mirrored[ORIENTATION] = 5
    alpha.save(IMAGES / "alpha.png", exif=mirrored, optimize=True)
    scene(40, 30).quantize(32).save(IMAGES / "palette.png", optimize=True)
    scene(17, 9).convert("L").save(IMAGES / "small.png", optimize=True)
    return sorted(p.name for p in IMAGES.iterdir())


def make_images() -> None:
    settings = dict(patch_size=14, temporal_patch_size=2, merge_size=2, min_pixels=56 * 56, max_pixels=28 * 28 * 6)
    processor = Qwen2VLImageProcessor(**settings)
    values = {}
    for name in write_images():
        image = ImageOps.exif_transpose(Image.open(IMAGES / name)).convert("RGB")
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
            num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=None,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0, mrope_section=[2, 3, 3]))
VISION = dict(depth=3, hidden_size=32, intermediate_size=40, num_heads=2, patch_size=4, temporal_patch_size=2,
              spatial_merge_size=2, window_size=16, out_hidden_size=64, fullatt_block_indexes=[1])

CONVERSATIONS = [
    [("user", ["Read this: ", "turned.jpg", " please."]), ("assistant", "It says Aerie 42.")],
    [("user", ["palette.png", " and ", "grey.jpg", " differ?"]), ("assistant", "Yes."),
     ("user", "Why?"), ("assistant", "One is grey.")],
    [("user", "No image here."), ("assistant", "True.")],
]


def messages_of(conversation) -> list[dict]:
    parts = lambda content: [{"type": "image", "image": p} if "." in p and " " not in p else {"type": "text", "text": p}
                             for p in content]
    return [{"role": role, "content": content if isinstance(content, str) else parts(content)}
            for role, content in conversation]


def render(conversation) -> str:
    from jinja2 import Template
    return Template(DIALECT.template).render(messages=messages_of(conversation), add_generation_prompt=False)


def make_model(directory: Path) -> Qwen2_5_VLForConditionalGeneration:
    ids = DIALECT.ids()
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "eos_token_id": ids["<|im_end|>"]}, vision_config=VISION,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False, attn_implementation="eager")
    model = Qwen2_5_VLForConditionalGeneration(config).eval()
    randomise(model)
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    return model


def inputs_of(conversation, processor, tokenizer) -> dict:
    files = [p for _, content in conversation if not isinstance(content, str) for p in content if "." in p and " " not in p]
    ids = tokenizer.encode(render(conversation)).ids
    if not files:
        return dict(input_ids=torch.tensor([ids]))
    images = [ImageOps.exif_transpose(Image.open(IMAGES / f)).convert("RGB") for f in files]
    out = processor(images=images, return_tensors="pt")
    counts = [int(g.prod()) // 4 for g in out["image_grid_thw"]]
    ids = torch.tensor([DIALECT.expand(ids, counts)])
    pad = DIALECT.ids()["<|image_pad|>"]
    return dict(input_ids=ids, mm_token_type_ids=(ids == pad).int(), **out)


def make_qwen2_5_vl() -> None:
    directory = GOLDEN / "models" / "qwen2_5_vl"
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    torch.manual_seed(7)
    model = make_model(directory)
    tokenizer = DIALECT.write_text_files(directory)
    settings = write_image_preprocessor(directory, patch=4, min_pixels=16 * 16, max_pixels=48 * 48)
    processor = Qwen2VLImageProcessor(**{k: v for k, v in settings.items() if k != "image_processor_type"})
    values = {}
    for d, conversation in enumerate(CONVERSATIONS):
        inputs = inputs_of(conversation, processor, tokenizer)
        outputs = []
        keep = lambda _module, _inputs, output: outputs.append((output[0] if isinstance(output, tuple) else output)[0])
        hooks = [layer.register_forward_hook(keep) for layer in model.model.language_model.layers]
        with torch.no_grad():
            result = model(**inputs, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        values |= {f"{d}.tokens": inputs["input_ids"][0], f"{d}.logits": result.logits[0],
                   f"{d}.hidden": result.hidden_states[-1][0], f"{d}.layers": torch.stack(outputs)}
        prompt_end = len(tokenizer.encode(render(conversation[:1])).ids) + len(tokenizer.encode("<|im_start|>assistant\n").ids)
        if "pixel_values" in inputs:
            with torch.no_grad():
                rows = model.model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
            positions, _ = model.model.get_rope_index(inputs["input_ids"], inputs["mm_token_type_ids"],
                                                      inputs["image_grid_thw"])
            values |= {f"{d}.pixels": inputs["pixel_values"], f"{d}.tower": torch.cat(list(rows)),
                       f"{d}.positions": positions[:, 0].contiguous()}
            prompt_end += int((inputs["input_ids"] == DIALECT.ids()["<|image_pad|>"]).sum()) - len(inputs["image_grid_thw"])
        prompt = {k: v[:, :prompt_end] if k in ("input_ids", "mm_token_type_ids") else v for k, v in inputs.items()}
        with torch.no_grad():
            out = model.generate(**prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
        values[f"{d}.continuation"] = out[0, prompt_end:]
    save_file({k: v.contiguous() for k, v in values.items()}, directory / "values.safetensors")
    print(f"{directory.relative_to(ROOT)}: {sum(f.stat().st_size for f in directory.iterdir()) // 1024} KiB")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["images", "qwen2_5_vl"]
    for part in wanted:
        {"images": make_images, "qwen2_5_vl": make_qwen2_5_vl}[part]()
