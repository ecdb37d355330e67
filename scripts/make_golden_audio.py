"""Short excerpts of real speech in four formats, what transformers' Whisper feature extractor makes of them, and a tiny
random Qwen2-Audio that hears them; for tests/data and tests/target_models. The results are committed under
tests/golden/audio and tests/golden/models/qwen2_audio; run again only to change them.

usage: .venv/bin/python scripts/make_golden_audio.py SPEECH.flac...     excerpts and features (16 kHz, one channel)
       .venv/bin/python scripts/make_golden_audio.py model              the tiny model, from the excerpts
"""
import ctypes
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import (  # noqa: E402
    PreTrainedTokenizerFast, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor, Qwen2Config,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_audio.configuration_qwen2_audio import Qwen2AudioEncoderConfig  # noqa: E402

from make_golden_models import randomise  # noqa: E402

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
OUT, MODEL = GOLDEN / "audio", GOLDEN / "models" / "qwen2_audio"
RATE, SECONDS = 16000, 1.3
FORMATS = {"flac": 0x170000 | 0x0002, "wav": 0x010000 | 0x0002, "ogg": 0x200000 | 0x0060, "mp3": 0x230000 | 0x0082}


class Info(ctypes.Structure):
    _fields_ = [("frames", ctypes.c_int64)] + [(name, ctypes.c_int) for name in
                                               ("samplerate", "channels", "format", "sections", "seekable")]


sndfile = ctypes.CDLL("libsndfile.so.1")
sndfile.sf_open.restype = ctypes.c_void_p
sndfile.sf_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(Info)]
for name in ("sf_readf_float", "sf_writef_float"):
    getattr(sndfile, name).restype = ctypes.c_int64
    getattr(sndfile, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
sndfile.sf_close.argtypes = [ctypes.c_void_p]


def read(path: Path) -> np.ndarray:
    info = Info()
    file = sndfile.sf_open(str(path).encode(), 0x10, ctypes.byref(info))
    assert file and info.channels == 1 and info.samplerate == RATE, path
    samples = np.zeros(RATE * 60, np.float32)
    count = sndfile.sf_readf_float(file, samples.ctypes.data, len(samples))
    sndfile.sf_close(file)
    return samples[:count]


def write(path: Path, samples: np.ndarray, code: int) -> None:
    info = Info(samplerate=RATE, channels=1, format=code)
    file = sndfile.sf_open(str(path).encode(), 0x20, ctypes.byref(info))
    samples = np.ascontiguousarray(samples, np.float32)
    assert file and sndfile.sf_writef_float(file, samples.ctypes.data, len(samples)) == len(samples), path
    sndfile.sf_close(file)


def make_features(sources: list[str]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    extractor = WhisperFeatureExtractor(feature_size=128)
    values = {}
    for i, (suffix, code) in enumerate(FORMATS.items()):
        speech = read(Path(sources[i % len(sources)]))
        file = OUT / f"speech.{suffix}"
        # Lengths that are no multiple of the hop; different for each.
        write(file, speech[RATE // 2:RATE // 2 + int(RATE * SECONDS) + 37 * i], code)
        samples = read(file)
        made = extractor(samples, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
        frames = int(made["attention_mask"].sum())
        # Beyond the speech every frame is the same: silence at the floor.
        kept = made["input_features"][0][:, :frames + 3].contiguous()
        assert torch.equal(made["input_features"][0][:, frames + 3:].amax(), kept.min()), file
        values |= {f"{suffix}.features": kept, f"{suffix}.frames": torch.tensor(frames),
                   f"{suffix}.samples": torch.tensor(len(samples))}
        print(file, file.stat().st_size, len(samples), frames)
    values["filters"] = torch.from_numpy(extractor.mel_filters).float().T.contiguous()
    save_file(values, OUT / "features.safetensors")
    print(OUT / "features.safetensors", (OUT / "features.safetensors").stat().st_size // 1024, "KiB")


WINDOW = 2  # seconds: 200 frames, 100 rows, 50 tokens
CHATS = (  # with one, two and no excerpts
    [{"role": "user", "content": [{"type": "audio", "audio": "speech.flac"}, {"type": "text", "text": "What is it?"}]},
     {"role": "assistant", "content": "A voice."}],
    [{"role": "system", "content": "Be brief."},
     {"role": "user", "content": [{"type": "text", "text": "Compare"}, {"type": "audio", "audio": "speech.ogg"},
                                  {"type": "audio", "audio": "speech.mp3"}]},
     {"role": "assistant", "content": "Equal."}, {"role": "user", "content": "Really?"},
     {"role": "assistant", "content": "Yes."}],
    [{"role": "user", "content": "No sound here."}, {"role": "assistant", "content": "True."}],
)


def make_processor() -> Qwen2AudioProcessor:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "text" / "tokenizers" / "qwen.json"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]})
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    return Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=128, chunk_length=WINDOW), tokenizer)


def make_small_model(processor: Qwen2AudioProcessor) -> Qwen2AudioForConditionalGeneration:
    torch.manual_seed(200)
    vocab = (len(processor.tokenizer) + 7) // 8 * 8
    text = Qwen2Config(hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
                       num_hidden_layers=3, vocab_size=vocab, max_position_embeddings=256, rms_norm_eps=1e-5,
                       rope_parameters=dict(rope_type="default", rope_theta=10000.0), bos_token_id=None,
                       eos_token_id=processor.tokenizer.eos_token_id)
    audio = Qwen2AudioEncoderConfig(num_mel_bins=128, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48,
                                    d_model=24, max_source_positions=WINDOW * 50)
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, attn_implementation="eager",
                              audio_token_index=processor.audio_token_id)
    model = Qwen2AudioForConditionalGeneration(config).eval()
    randomise(model)
    for convolution in (model.model.audio_tower.conv1, model.model.audio_tower.conv2):
        convolution.weight.data /= convolution.in_channels ** 0.5
    return model


def hear(processor, chat: list[dict], **options):
    names = [part["audio"] for turn in chat if isinstance(turn["content"], list)
             for part in turn["content"] if part["type"] == "audio"]
    text = processor.apply_chat_template(chat, tokenize=False, **options)
    heard = dict(audio=[read(OUT / name) for name in names], sampling_rate=RATE) if names else {}
    return processor(text=text, return_tensors="pt", **heard)


def make_model() -> None:
    MODEL.mkdir(parents=True, exist_ok=True)
    for old in MODEL.iterdir():
        old.unlink()
    processor = make_processor()
    model = make_small_model(processor)
    model.save_pretrained(MODEL)
    (MODEL / "generation_config.json").unlink(missing_ok=True)
    processor.tokenizer.save_pretrained(MODEL)
    processor.feature_extractor.save_pretrained(MODEL)
    (MODEL / "chat_template.jinja").write_text(processor.chat_template)
    values = {}
    for i, chat in enumerate(CHATS):
        inputs = hear(processor, chat)
        outputs, towers = [], []
        language = model.model.language_model
        hooks = [layer.register_forward_hook(
            lambda _m, _i, out: outputs.append((out[0] if isinstance(out, tuple) else out)[0])) for layer in language.layers]
        hooks.append(model.model.multi_modal_projector.register_forward_hook(lambda _m, _i, out: towers.append(out)))
        hooks.append(language.norm.register_forward_hook(lambda _m, _i, out: outputs.append(out[0])))
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        for hook in hooks:
            hook.remove()
        values |= {f"{i}.tokens": inputs["input_ids"][0], f"{i}.logits": logits, f"{i}.hidden": outputs[-1],
                   f"{i}.layers": torch.stack(outputs[:-1])}
        for j, mask in enumerate(inputs.get("feature_attention_mask", [])):
            rows = (int(mask.sum()) + 1) // 2  # after the convolutions
            values |= {f"{i}.{j}.tower": towers[0][j, :rows // 2].contiguous(),
                       f"{i}.{j}.features": inputs["input_features"][j, :, :min(2 * rows + 1, WINDOW * 100)].contiguous()}
        prompt = hear(processor, chat[:-1], add_generation_prompt=True)
        generated = model.generate(**prompt, do_sample=False, max_new_tokens=24, min_new_tokens=24, eos_token_id=None,
                                   pad_token_id=0)[0]
        values[f"{i}.continuation"] = generated[prompt["input_ids"].shape[1]:]
    save_file({k: v.clone() for k, v in values.items()}, MODEL / "values.safetensors")
    (MODEL / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in CHATS))
    print(MODEL, sum(f.stat().st_size for f in MODEL.iterdir()) // 1024, "KiB")


if __name__ == "__main__":
    assert len(sys.argv) > 1, __doc__
    make_model() if sys.argv[1] == "model" else make_features(sys.argv[1:])
