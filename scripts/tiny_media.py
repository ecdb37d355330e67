"""Small tokenizers, chat templates and preprocessors in the form of Qwen-VL, HunyuanOCR and Qwen2-Audio, for goldens
and for the small targets of scripts/small_target.py: bytes as tokens, and the templates' structure with their media
markers."""
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'KIND' or 'KIND' in content %}BEGINPLACEHOLDEREND"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Dialect:
    """How a family's template writes media."""
    kind: str  # of the content's parts
    begin: str
    end: str
    placeholder: str
    others: tuple[str, ...] = ()

    @property
    def specials(self) -> list[str]:
        return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", self.begin, self.end, self.placeholder, *self.others]

    @property
    def template(self) -> str:
        text = TEMPLATE.replace("KIND", self.kind).replace("PLACEHOLDER", self.placeholder)
        return text.replace("BEGIN", self.begin).replace("END", self.end)

    def ids(self) -> dict[str, int]:
        return {s: 256 + i for i, s in enumerate(self.specials)}

    def tokenizer(self) -> Tokenizer:
        """One token a byte, and the specials behind them."""
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in self.specials])
        return tokenizer

    def write_text_files(self, directory: Path) -> Tokenizer:
        """tokenizer.json, tokenizer_config.json, chat_template.jinja"""
        tokenizer = self.tokenizer()
        tokenizer.save(str(directory / "tokenizer.json"))
        (directory / "tokenizer_config.json").write_text(json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
            indent=1) + "\n")
        (directory / "chat_template.jinja").write_text(self.template)
        return tokenizer

    def expand(self, ids: list[int], counts: list[int]) -> list[int]:
        """Each placeholder repeated as often as its piece of media has tokens."""
        pad, counts, out = self.ids()[self.placeholder], iter(counts), []
        for i in ids:
            out += [i] * next(counts) if i == pad else [i]
        return out


IMAGES = Dialect("image", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", ("<|video_pad|>",))
HUNYUAN_IMAGES = Dialect("image", "<im_start>", "<im_end>", "<image>")
AUDIO = Dialect("audio", "<|audio_bos|>", "<|audio_eos|>", "<|AUDIO|>")


def write_image_preprocessor(directory: Path, patch: int, min_pixels: int, max_pixels: int, *, temporal: int = 2,
                             mean: list[float] | None = None, std: list[float] | None = None,
                             kind: str = "Qwen2VLImageProcessor") -> dict:
    settings = dict(image_processor_type=kind, patch_size=patch, temporal_patch_size=temporal, merge_size=2,
                    min_pixels=min_pixels, max_pixels=max_pixels,
                    image_mean=mean or [0.48145466, 0.4578275, 0.40821073],
                    image_std=std or [0.26862954, 0.26130258, 0.27577711])
    (directory / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    return settings
