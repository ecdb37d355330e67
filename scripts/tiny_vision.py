"""A small tokenizer, chat template and image preprocessor in the form of Qwen2.5-VL, for goldens and for the reader of
scripts/train_reader.py: bytes as tokens, and the template's structure with its vision markers."""
import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
            "<|video_pad|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> Tokenizer:
    """One token a byte, and the specials behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    return tokenizer


def token_ids() -> dict[str, int]:
    return {s: 256 + i for i, s in enumerate(SPECIALS)}


def write_text_files(directory: Path) -> Tokenizer:
    """tokenizer.json, tokenizer_config.json, chat_template.jinja"""
    tokenizer = make_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        indent=1) + "\n")
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    return tokenizer


def write_preprocessor(directory: Path, patch: int, min_pixels: int, max_pixels: int) -> dict:
    settings = dict(image_processor_type="Qwen2VLImageProcessor", patch_size=patch, temporal_patch_size=2, merge_size=2,
                    min_pixels=min_pixels, max_pixels=max_pixels, image_mean=[0.48145466, 0.4578275, 0.40821073],
                    image_std=[0.26862954, 0.26130258, 0.27577711])
    (directory / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return settings


def expand(ids: list[int], counts: list[int]) -> list[int]:
    """Each image placeholder repeated as often as its image has tokens."""
    pad, counts, out = token_ids()["<|image_pad|>"], iter(counts), []
    for i in ids:
        out += [i] * next(counts) if i == pad else [i]
    return out
